package network

import (
	"context"
	"slices"

	"github.com/mdlayher/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// guardRules writes our table anew when someone deletes it, as the reload of a host firewall that begins with
// "flush ruleset" does. It returns when the context ends.
func (f *Fabric) guardRules(ctx context.Context) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)})
	if err != nil {
		f.log.Warn("the host's firewall is not watched", zap.Error(err))
		<-ctx.Done()
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer func() {
		if stop() {
			_ = conn.Close()
		}
	}()
	for ctx.Err() == nil {
		msgs, err := conn.Receive()
		// An error of the socket means that news was lost: then look.
		if err != nil || slices.ContainsFunc(msgs, deletesTable) {
			f.repairRules(ctx)
		}
	}
}

func deletesTable(m netlink.Message) bool {
	return m.Header.Type == netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_DELTABLE)
}

func (f *Fabric) repairRules(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	repaired, err := f.fw.repair()
	switch {
	case err != nil:
		f.log.Error("the rules of the networks cannot be repaired", zap.Error(err))
	case repaired:
		f.log.Warn("someone flushed the host's nftables; the rules of the networks are back")
	}
}
