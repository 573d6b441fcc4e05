package runtime

import (
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

func TestParseShim(t *testing.T) {
	for _, tt := range []struct {
		name, line string
		want       shimProcess
		address    string
		ok         bool
	}{
		{"shim", "shim -namespace admin -id c1 -address /x/c.sock", shimProcess{Key: Key{"admin", "c1"}}, "/x/c.sock", true},
		{"shim that talks", "shim -namespace admin -id c1 -address /x/c.sock -debug", shimProcess{Key: Key{"admin", "c1"}}, "/x/c.sock", true},
		{
			"start", "shim -namespace admin -address /x/c.sock -publish-binary /bin/n -id c1 start",
			shimProcess{Key: Key{"admin", "c1"}, errand: true}, "/x/c.sock", true,
		},
		{
			"delete", "shim -namespace admin -address /x/c.sock -id c1 -bundle /b delete",
			shimProcess{Key: Key{"admin", "c1"}, errand: true}, "/x/c.sock", true,
		},
		{"another program", "ctr -address /x/c.sock ps", shimProcess{}, "/x/c.sock", false},
		{"nothing", "", shimProcess{}, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, address, ok := parseShim(strings.Split(tt.line, " "))
			assert.Equal(t, ok, tt.ok)
			assert.Equal(t, address, tt.address)
			assert.Equal(t, got, tt.want)
		})
	}
}
