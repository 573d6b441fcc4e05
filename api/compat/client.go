package compat

import "strings"

// oldCompose is how docker-compose of the first line, the one in Python, names itself.
const oldCompose = "docker-compose/1."

// AsUnderstood is the version in which a client reads an answer. docker-compose 1 asks for the newest version there is
// and expects what answers held when it was written: to recreate a container it needs the image's ContainerConfig,
// which 1.45 took away.
func (v Version) AsUnderstood(userAgent string) Version {
	if strings.HasPrefix(userAgent, oldCompose) {
		return min(v, 44)
	}
	return v
}
