package request

import (
	"encoding/json"
	"net/http"

	"github.com/docker/docker/api/types/filters"
)

// Filters reads the filters parameter, in its form of today and in the old one of lists. Parse must have been called.
func Filters(r *http.Request) (filters.Args, error) {
	return ParseFilters(r.Form.Get("filters"))
}

// ParseFilters reads the JSON of filters. What it returns may be added to.
func ParseFilters(s string) (filters.Args, error) {
	args, err := filters.FromJSON(s)
	if err != nil {
		return filters.NewArgs(), err
	}
	for _, key := range args.Keys() {
		if len(args.Get(key)) == 0 {
			return writable(args)
		}
	}
	return args, nil
}

// writable replaces the nil maps that a null leaves behind: adding to one would panic. The keys stay, for an unknown
// one is refused even without a value.
func writable(args filters.Args) (filters.Args, error) {
	all := map[string]map[string]bool{}
	for _, key := range args.Keys() {
		all[key] = map[string]bool{}
		for _, v := range args.Get(key) {
			all[key][v] = true
		}
	}
	raw, err := json.Marshal(all)
	if err != nil {
		return filters.NewArgs(), err
	}
	return filters.FromJSON(string(raw))
}
