package runtime

// SocketDir is where the shims of a runtime with this state listen.
func SocketDir(state string) string { return socketDir(state) }
