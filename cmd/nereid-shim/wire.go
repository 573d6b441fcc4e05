package main

import "google.golang.org/protobuf/encoding/protowire"

// params is what containerd says of the shim to start: containerd.runtime.bootstrap.v1.BootstrapParams, so far as this
// program needs it.
type params struct {
	id, namespace, grpcAddress, socketDir string
}

// The fields of BootstrapParams.
const (
	fieldID         = 1
	fieldNamespace  = 2
	fieldLogLevel   = 3
	fieldVersion    = 4
	fieldTTRPC      = 5
	fieldGRPC       = 6
	fieldBinary     = 7
	fieldExtensions = 8
	fieldSocketDir  = 9
)

// levelDebug is the LogLevel from which on, downwards, a shim has one more socket.
const levelDebug = -4

// parse reads the parameters; false where something is asked that only the shim knows: to tell more of itself, or
// parameters newer than this program.
func parse(b []byte) (p params, ok bool) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return p, false
		}
		b = b[n:]
		if num == fieldLogLevel && typ == protowire.VarintType {
			level, n := protowire.ConsumeVarint(b)
			if n < 0 || int32(level) <= levelDebug {
				return p, false
			}
			b = b[n:]
			continue
		}
		if num > fieldSocketDir || typ != protowire.BytesType {
			return p, false
		}
		v, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return p, false
		}
		b = b[n:]
		switch num {
		case fieldID:
			p.id = string(v)
		case fieldNamespace:
			p.namespace = string(v)
		case fieldGRPC:
			p.grpcAddress = string(v)
		case fieldSocketDir:
			p.socketDir = string(v)
		case fieldVersion, fieldTTRPC, fieldBinary, fieldExtensions:
			// Of no concern to who starts the shim: options of runc go to it with the task, and ours never ask for a
			// cgroup of the shim's own.
		}
	}
	return p, p.id != "" && p.namespace != "" && p.grpcAddress != "" && p.socketDir != ""
}

// answer is the BootstrapResult of a shim that listens at an address.
func answer(address string) []byte {
	const fieldVersion, fieldAddress, fieldProtocol, version = 1, 2, 3, 3
	b := protowire.AppendTag(nil, fieldVersion, protowire.VarintType)
	b = protowire.AppendVarint(b, version)
	b = protowire.AppendTag(b, fieldAddress, protowire.BytesType)
	b = protowire.AppendString(b, address)
	b = protowire.AppendTag(b, fieldProtocol, protowire.BytesType)
	return protowire.AppendString(b, "ttrpc")
}
