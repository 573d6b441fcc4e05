package nereid

import "time"

// CNSZone is what administrators are told of a DNS zone.
type CNSZone struct {
	Apex string
	Kind string // inner, outer or reverse
	// Made is what made the zone: "default" the command line, "networks" the subnets of networks, "settings" operators.
	Made     string
	Serial   uint32
	Names    int      // with records
	Settings []string // KEY=VALUE, those that are not the default
	Signed   bool
}

// CNSSettings are changes to settings: KEY=VALUE, KEY+=VALUE, KEY-=VALUE.
type CNSSettings struct{ Settings []string }

// CNSWarnings is what is odd with settings that were taken all the same.
type CNSWarnings struct{ Warnings []string }

// CNSStatus is how a host's name service does.
type CNSStatus struct {
	Host     Host
	Revision int64         // of the state, that the zones are made of
	Took     time.Duration // for the last change to come into the zones
	Exact    bool          // the zones are what other hosts have at the same serials
	Hidden   []Host        // that cannot be reached
	Zones    []CNSZone
	// Secondaries of all zones.
	Secondaries []CNSSecondary
	Transfers   map[string]uint64 // since the daemon's start, by what they came to
}

// CNSSecondary is another name server that a zone is for.
type CNSSecondary struct {
	Apex    string
	Address string
	Serial  uint32 // 0: not known
	// Drift is how many seconds it has lacked changes, 0 when it lacks none.
	Drift float64
	Error string `json:",omitempty"`
}

// CNSKey is a key of DNSSEC.
type CNSKey struct {
	Tag     uint16
	Created time.Time
	DS      string // the record that the parent zone must have
}

// CNSTSIG is a key shared with other name servers. The secret is shown to who makes one, and in no list.
type CNSTSIG struct {
	Name      string
	Algorithm string
	Secret    string `json:",omitempty"` // base64
	Created   time.Time
}

// CNSExplanation says why names are there, or are not.
type CNSExplanation struct {
	// Container asked for, or Name.
	Container string `json:",omitempty"`
	Name      string `json:",omitempty"`
	// Verdict is how questions for the name are answered.
	Verdict string   `json:",omitempty"`
	Reasons []string `json:",omitempty"`
	Zones   []CNSNames
}

// CNSNames are what a container has in a zone, and what it lacks.
type CNSNames struct {
	Apex      string
	Container string   // name and short id
	Records   []string // as zone files have them
	Lacks     []string // and why
}
