// Command peer is a go-libp2p node that does with its streams what it is told:
// one JSON command per line of its input, one JSON event per line of its
// output. It frames and encodes messages as Gantry's Go agents do, and ends
// with its input.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"strconv"
	"sync"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
)

// A command opens a stream, or names one, and says what to do on it; or it
// brings bodies of frames to decode. Commands run at the same time, the steps
// of one run one after the other.
type command struct {
	ID     int      `json:"id"`
	Open   *open    `json:"open"`
	Stream string   `json:"stream"`
	Steps  []step   `json:"steps"`
	Decode [][]byte `json:"decode"`
}

// open says where a stream leads to.
type open struct {
	// Addr is a multiaddr that ends in /p2p/<id>.
	Addr      string        `json:"addr"`
	Protocols []protocol.ID `json:"protocols"`
	// Lazy has the node believe that the peer speaks the protocols, as it does
	// after an earlier stream: it then sends the name together with the first bytes.
	Lazy bool `json:"lazy"`
}

// An event is the readiness of the node, a stream that a peer opened, or the
// end of a command.
type event struct {
	Event    string    `json:"event"`
	Peer     string    `json:"peer,omitempty"`
	Addrs    []string  `json:"addrs,omitempty"`
	ID       int       `json:"id,omitempty"`
	Stream   string    `json:"stream,omitempty"`
	Protocol string    `json:"protocol,omitempty"`
	Security string    `json:"security,omitempty"`
	Muxer    string    `json:"muxer,omitempty"`
	Error    string    `json:"error,omitempty"`
	Outcomes []outcome `json:"outcomes,omitempty"`
}

type node struct {
	host host.Host

	mu      sync.Mutex
	out     *json.Encoder
	streams map[string]*stream
}

func main() {
	log.SetFlags(0)
	spoken := flag.String("protocol", "/gantry/coord/1.0.0", "the protocol to take streams of")
	flag.Parse()
	if err := run(protocol.ID(*spoken)); err != nil {
		log.Fatal(err)
	}
}

func run(spoken protocol.ID) error {
	h, err := libp2p.New(
		libp2p.NoTransports,
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"),
		libp2p.DisableRelay(),
	)
	if err != nil {
		return err
	}
	defer h.Close()

	n := &node{host: h, out: json.NewEncoder(os.Stdout), streams: make(map[string]*stream)}
	h.SetStreamHandler(spoken, func(s network.Stream) { n.emit(n.describe("stream", n.add(s))) })

	addrs, err := peer.AddrInfoToP2pAddrs(host.InfoFromHost(h))
	if err != nil {
		return err
	}
	ready := event{Event: "ready", Peer: h.ID().String()}
	for _, addr := range addrs {
		ready.Addrs = append(ready.Addrs, addr.String())
	}
	n.emit(ready)

	for in := json.NewDecoder(os.Stdin); in.More(); {
		var c command
		if err := in.Decode(&c); err != nil {
			return fmt.Errorf("reading a command: %w", err)
		}
		go n.obey(c)
	}
	return nil
}

func (n *node) emit(e event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.out.Encode(e); err != nil {
		log.Fatal(err)
	}
}

// add names a stream.
func (n *node) add(s network.Stream) *stream {
	n.mu.Lock()
	defer n.mu.Unlock()
	named := newStream(strconv.Itoa(len(n.streams)+1), s)
	n.streams[named.name] = named
	return named
}

// describe says of a stream what it is and what carries it.
func (n *node) describe(kind string, s *stream) event {
	conn := s.Conn()
	return event{
		Event:    kind,
		Stream:   s.name,
		Peer:     conn.RemotePeer().String(),
		Protocol: string(s.Protocol()),
		Security: string(conn.ConnState().Security),
		Muxer:    string(conn.ConnState().StreamMultiplexer),
	}
}

func (n *node) obey(c command) {
	if c.Decode != nil {
		done := event{Event: "done", ID: c.ID}
		for _, body := range c.Decode {
			done.Outcomes = append(done.Outcomes, canonical(body))
		}
		n.emit(done)
		return
	}
	s, err := n.find(c)
	if err != nil {
		n.emit(event{Event: "done", ID: c.ID, Error: reasonOf(err)})
		return
	}
	outcomes := make([]outcome, len(c.Steps))
	for i, step := range c.Steps {
		outcomes[i] = s.do(step)
	}
	done := n.describe("done", s)
	done.ID, done.Outcomes = c.ID, outcomes
	n.emit(done)
}

// find gives the stream of a command, which may be a new one.
func (n *node) find(c command) (*stream, error) {
	if c.Open != nil {
		return n.open(*c.Open)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	s, ok := n.streams[c.Stream]
	if !ok {
		return nil, fmt.Errorf("no stream %q", c.Stream)
	}
	return s, nil
}

func (n *node) open(o open) (*stream, error) {
	target, err := peer.AddrInfoFromString(o.Addr)
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	if err := n.host.Connect(ctx, *target); err != nil {
		return nil, err
	}
	if o.Lazy {
		if err := n.host.Peerstore().AddProtocols(target.ID, o.Protocols...); err != nil {
			return nil, err
		}
	}
	s, err := n.host.NewStream(ctx, target.ID, o.Protocols...)
	if err != nil {
		return nil, err
	}
	return n.add(s), nil
}
