// Package redis speaks as much of Redis's protocol as the applications of the tests need.
package redis

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Do sends one command over a connection of its own and returns its answer: a string, or what of a list is asked for
// last. An answer of nothing is the empty string.
func Do(ctx context.Context, addr string, args ...string) (string, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return "", err
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := c.Write([]byte(b.String())); err != nil {
		return "", err
	}
	return read(bufio.NewReader(c))
}

func read(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	kind, rest := line[0], strings.TrimSpace(line[1:])
	switch kind {
	case '-':
		return "", errors.New(rest)
	case '$':
		return readString(r, rest)
	case '*':
		n, err := strconv.Atoi(rest)
		last := ""
		for i := 0; i < n && err == nil; i++ {
			last, err = read(r)
		}
		return last, err
	default:
		return rest, nil
	}
}

func readString(r *bufio.Reader, length string) (string, error) {
	n, err := strconv.Atoi(length)
	if err != nil || n < 0 {
		return "", err
	}
	b := make([]byte, n+2)
	for got := 0; got < len(b); {
		m, err := r.Read(b[got:])
		if err != nil {
			return "", err
		}
		got += m
	}
	return string(b[:n]), nil
}
