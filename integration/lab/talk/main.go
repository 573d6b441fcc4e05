// Command talk finds out who reaches whom: `talk serve NAME PORT` answers its name over TCP and UDP, `talk ask ADDR:PORT…`
// asks all at once over both and prints a line for each: address, protocol and the name, or "-" when nobody answers.
// `talk lookup NAME` prints the addresses that Go's own resolver finds.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// patience is how long nobody may answer: all are on one machine, which may be busy.
const patience = 1500 * time.Millisecond

func main() {
	if len(os.Args) == 4 && os.Args[1] == "serve" {
		log.Fatal(serve(os.Args[2], os.Args[3]))
	}
	if len(os.Args) == 3 && os.Args[1] == "lookup" {
		addrs, err := net.DefaultResolver.LookupHost(context.Background(), os.Args[2])
		fmt.Println(strings.Join(addrs, "\n"))
		if err != nil {
			log.Fatal(err)
		}
		return
	}
	var all sync.WaitGroup
	for _, at := range os.Args[2:] {
		for _, network := range []string{"tcp", "udp"} {
			all.Go(func() { fmt.Printf("%s %s %s\n", at, network, ask(network, at)) })
		}
	}
	all.Wait()
}

// serve listens on each address of its own, so that answers over UDP come from the one that was asked.
func serve(name, port string) error {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
	for _, a := range addrs {
		ip := a.(*net.IPNet).IP
		if ip.IsLoopback() || ip.IsLinkLocalUnicast() {
			continue
		}
		u, err := net.ListenPacket("udp", net.JoinHostPort(ip.String(), port)) //nolint:noctx // it ends with the process
		if err != nil {
			return err
		}
		go echo(u, name)
	}
	l, err := net.Listen("tcp", ":"+port) //nolint:noctx // it ends with the process
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		_, _ = io.WriteString(c, name)
		_ = c.Close()
	}
}

func echo(u net.PacketConn, name string) {
	buf := make([]byte, 64)
	for {
		_, from, err := u.ReadFrom(buf)
		if err == nil {
			_, _ = u.WriteTo([]byte(name), from)
		}
	}
}

func ask(network, at string) string {
	c, err := (&net.Dialer{Timeout: patience}).DialContext(context.Background(), network, at)
	if err != nil {
		return "-"
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if network == "udp" {
		_, _ = io.WriteString(c, "?")
	}
	buf := make([]byte, 64)
	n, err := c.Read(buf)
	if err != nil {
		return "-"
	}
	return string(buf[:n])
}
