package nereid

import "fmt"

// IDMap says which users and groups of the host stand for those of a container in a user namespace, from 0 on. The zero
// value is that of a container whose users are the host's.
type IDMap struct {
	UID, GID   uint32 // of the host: the container's root
	UIDs, GIDs uint32 // how many there are
}

// Mapped tells whether the container has a user namespace.
func (m IDMap) Mapped() bool { return m.UIDs > 0 }

// Forth are the mappings as user namespaces have them: CONTAINER:HOST:COUNT.
func (m IDMap) Forth() (uids, gids string) {
	return fmt.Sprintf("0:%d:%d", m.UID, m.UIDs), fmt.Sprintf("0:%d:%d", m.GID, m.GIDs)
}

// Back are the mappings that undo Forth.
func (m IDMap) Back() (uids, gids string) {
	return fmt.Sprintf("%d:0:%d", m.UID, m.UIDs), fmt.Sprintf("%d:0:%d", m.GID, m.GIDs)
}
