package admin

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nereid-paas/nereid/cns/record"
	"github.com/nereid-paas/nereid/cns/transfer"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// setting is one thing that operators may say of a zone.
type setting struct {
	key string
	// get is its value, "" for the default; a list's is separated by commas.
	get func(*state.Zone) string
	// set takes a value, "" for the default.
	set func(*state.Zone, string) error
	// list settings know += and -= as well.
	list bool
}

// maxTTL is a day: more would outlive any container.
const maxTTL = 86400

// settings are all of them, as they are shown.
func settings() []setting {
	return []setting{
		word("kind", func(z *state.Zone) *string { return &z.Kind }, checkKind),
		list("networks", func(z *state.Zone) *[]string { return &z.Networks }, checkNetwork),
		seconds("ttl", func(z *state.Zone) *uint32 { return &z.TTL }),
		seconds("negative-ttl", func(z *state.Zone) *uint32 { return &z.NegativeTTL }),
		list("servers", func(z *state.Zone) *[]string { return &z.Servers }, record.FQDN),
		toggle("hidden-primary", func(z *state.Zone) *bool { return &z.HiddenPrimary }),
		word("primary", func(z *state.Zone) *string { return &z.Primary }, optional(record.FQDN)),
		word("mailbox", func(z *state.Zone) *string { return &z.Mailbox }, optional(mailbox)),
		list("secondaries", func(z *state.Zone) *[]string { return &z.Secondaries }, checkSecondary),
		list("transfer", func(z *state.Zone) *[]string { return &z.Transfer }, checkTransfer),
		list("keys", func(z *state.Zone) *[]string { return &z.Keys }, record.FQDN),
		hosts("notifiers", func(z *state.Zone) *[]nereid.Host { return &z.Notifiers }),
		toggle("dnssec", func(z *state.Zone) *bool { return &z.DNSSEC }),
		base("serial-base"),
	}
}

// show are the settings of a zone that are not the default: KEY=VALUE.
func show(z *state.Zone) []string {
	var all []string
	for _, s := range settings() {
		if v := s.get(z); v != "" {
			all = append(all, s.key+"="+v)
		}
	}
	return all
}

// apply changes a zone by words KEY=VALUE, KEY+=VALUE or KEY-=VALUE, and returns everything that is wrong with them.
func apply(z *state.Zone, words []string) error {
	var errs []error
	known := settings()
	for _, w := range words {
		key, value, ok := strings.Cut(w, "=")
		if !ok {
			errs = append(errs, fmt.Errorf("%q is not KEY=VALUE", w))
			continue
		}
		key, op := cutOperator(key)
		i := slices.IndexFunc(known, func(s setting) bool { return s.key == key })
		if i < 0 {
			errs = append(errs, fmt.Errorf("there is no setting %q", key))
			continue
		}
		if err := known[i].change(z, op, value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
	}
	return errors.Join(errs...)
}

func cutOperator(key string) (name string, op byte) {
	if n := len(key) - 1; n > 0 && (key[n] == '+' || key[n] == '-') {
		return key[:n], key[n]
	}
	return key, '='
}

func (s setting) change(z *state.Zone, op byte, value string) error {
	if op == '=' {
		return s.set(z, value)
	}
	if !s.list {
		return fmt.Errorf("it is no list: %c= has no meaning", op)
	}
	// The words as they are kept, so that what is taken away is found however it is spelled.
	fresh := &state.Zone{}
	if err := s.set(fresh, value); err != nil {
		return err
	}
	have, some := elements(s.get(z)), elements(s.get(fresh))
	have = slices.DeleteFunc(have, func(e string) bool { return slices.Contains(some, e) })
	if op == '+' {
		have = append(have, some...)
	}
	return s.set(z, strings.Join(have, ","))
}

func elements(value string) []string {
	var all []string
	for e := range strings.SplitSeq(value, ",") {
		if e = strings.TrimSpace(e); e != "" && !slices.Contains(all, e) {
			all = append(all, e)
		}
	}
	return all
}

func word(key string, field func(*state.Zone) *string, check func(string) (string, error)) setting {
	return setting{key: key, get: func(z *state.Zone) string { return *field(z) }, set: func(z *state.Zone, v string) (err error) {
		v, err = check(v)
		if err == nil {
			*field(z) = v
		}
		return err
	}}
}

// optional lets a value be empty.
func optional(check func(string) (string, error)) func(string) (string, error) {
	return func(v string) (string, error) {
		if v == "" {
			return "", nil
		}
		return check(v)
	}
}

func list(key string, field func(*state.Zone) *[]string, check func(string) (string, error)) setting {
	return setting{key: key, list: true, get: func(z *state.Zone) string { return strings.Join(*field(z), ",") },
		set: func(z *state.Zone, v string) error {
			var all []string
			for _, e := range elements(v) {
				checked, err := check(e)
				if err != nil {
					return err
				}
				all = append(all, checked)
			}
			*field(z) = all
			return nil
		}}
}

func hosts(key string, field func(*state.Zone) *[]nereid.Host) setting {
	words := func(z *state.Zone) (all []string) {
		for _, h := range *field(z) {
			all = append(all, string(h))
		}
		return all
	}
	return setting{key: key, list: true, get: func(z *state.Zone) string { return strings.Join(words(z), ",") },
		set: func(z *state.Zone, v string) error {
			*field(z) = nil
			for _, e := range elements(v) {
				if _, err := record.Label(e); err != nil {
					return err
				}
				*field(z) = append(*field(z), nereid.Host(e))
			}
			return nil
		}}
}

func toggle(key string, field func(*state.Zone) *bool) setting {
	return setting{key: key, get: func(z *state.Zone) string {
		if *field(z) {
			return "on"
		}
		return ""
	}, set: func(z *state.Zone, v string) error {
		switch v {
		case "on", "true", "yes":
			*field(z) = true
		case "off", "false", "no", "":
			*field(z) = false
		default:
			return fmt.Errorf("%q is neither on nor off", v)
		}
		return nil
	}}
}

func seconds(key string, field func(*state.Zone) *uint32) setting {
	return setting{key: key, get: func(z *state.Zone) string { return number(*field(z)) }, set: func(z *state.Zone, v string) error {
		n, err := strconv.ParseUint(cmp.Or(v, "0"), 10, 32)
		if err != nil || n > maxTTL || v != "" && n == 0 {
			return fmt.Errorf("%q is no number of seconds from 1 to %d", v, maxTTL)
		}
		*field(z) = uint32(n)
		return nil
	}}
}

func base(key string) setting {
	return setting{key: key, get: func(z *state.Zone) string { return number(z.SerialBase) }, set: func(z *state.Zone, v string) error {
		n, err := strconv.ParseUint(cmp.Or(v, "0"), 10, 32)
		if err != nil {
			return fmt.Errorf("%q is no number from 0 to 4294967295", v)
		}
		if int32(uint32(n)-z.SerialBase) < 0 {
			return fmt.Errorf("it is %d and can only grow: secondaries take no lower serials", z.SerialBase)
		}
		z.SerialBase = uint32(n)
		return nil
	}}
}

func number(n uint32) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatUint(uint64(n), 10)
}

func checkKind(v string) (string, error) {
	switch v {
	case state.ZoneInner, state.ZoneOuter, state.ZoneReverse:
		return v, nil
	}
	return "", fmt.Errorf("%q is not one of inner, outer, reverse", v)
}

func checkNetwork(v string) (string, error) {
	if strings.ContainsAny(v, " \t*") {
		return "", fmt.Errorf("%q is no network's name; give none for all that no other zone lists", v)
	}
	return v, nil
}

// mailbox makes the name of a mail address (RFC 1035, section 8).
func mailbox(v string) (string, error) {
	local, domain, ok := strings.Cut(v, "@")
	if !ok {
		return record.FQDN(v)
	}
	if strings.Contains(local, ".") {
		return "", fmt.Errorf("%q: what stands before @ must not hold a dot", v)
	}
	return record.FQDN(local + "." + domain)
}

func checkSecondary(v string) (string, error) {
	s, err := transfer.ParseSecondary(v)
	if err != nil {
		return "", err
	}
	if s.Key == "" {
		return address(s.Addr), nil
	}
	return address(s.Addr) + "@" + s.Key, nil
}

func checkTransfer(v string) (string, error) {
	p, err := transfer.ParseNetwork(v)
	if err != nil {
		return "", err
	}
	if p.IsSingleIP() {
		return p.Addr().String(), nil
	}
	return p.String(), nil
}
