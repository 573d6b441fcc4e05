package network

import "github.com/nereid-paas/nereid/pkg/state"

// CheckParent checks the options of a network whose containers are on a wire of the host itself.
func CheckParent(*state.Network) (unknown []string, err error) { return nil, nil }
