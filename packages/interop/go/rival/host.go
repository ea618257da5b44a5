package main

import (
	"gantry/interop/coordpb"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-msgio"
	"google.golang.org/protobuf/proto"
)

const (
	protocolID protocol.ID = "/gantry/coord/1.0.0"
	// maxMessageBytes is the largest body of a frame.
	maxMessageBytes = 1 << 20
)

// newHost makes a node that speaks what ours do: TCP, Noise and Yamux. It has
// no resource manager: the peers of a benchmark share one machine and one
// address, for which its limits were not made.
func newHost(opts ...libp2p.Option) (host.Host, error) {
	return libp2p.New(append([]libp2p.Option{
		libp2p.NoTransports,
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Security(noise.ID, noise.New),
		libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.ResourceManager(&network.NullResourceManager{}),
		libp2p.DisableRelay(),
	}, opts...)...)
}

// readEnvelope takes the first frame of a stream.
func readEnvelope(s network.Stream) (*coordpb.Envelope, error) {
	reader := msgio.NewVarintReaderSize(s, maxMessageBytes)
	body, err := reader.ReadMsg()
	if err != nil {
		return nil, err
	}
	defer reader.ReleaseMsg(body)
	envelope := new(coordpb.Envelope)
	return envelope, proto.Unmarshal(body, envelope)
}

// writeEnvelope sends one frame.
func writeEnvelope(s network.Stream, envelope *coordpb.Envelope) error {
	body, err := proto.Marshal(envelope)
	if err != nil {
		return err
	}
	return msgio.NewVarintWriter(s).WriteMsg(body)
}
