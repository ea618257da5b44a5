package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gantry/interop/coordpb"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	maxStreams             = 512
	maxDigests             = 256
	streamHandshakeTimeout = 5 * time.Second
	dispatchTimeout        = 2 * time.Second
)

// self is the node id of the server in every membership.
const self = "node-0"

// A serverCommand is Join of bench's Message.ts: it makes these peers the
// membership, among others up to a size.
type serverCommand struct {
	Tag     string    `json:"_tag"`
	Peers   []peer.ID `json:"peers"`
	Members int       `json:"members"`
}

type serverEvent struct {
	Tag       string   `json:"_tag"`
	PeerID    string   `json:"peerId,omitempty"`
	Addresses []string `json:"addresses,omitempty"`
}

func serve() error {
	h, err := newHost(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"))
	if err != nil {
		return err
	}
	defer h.Close()
	srv := newServer()
	h.SetStreamHandler(protocolID, srv.handle)

	addrs, err := peer.AddrInfoToP2pAddrs(host.InfoFromHost(h))
	if err != nil {
		return err
	}
	ready := serverEvent{Tag: "Ready", PeerID: h.ID().String()}
	for _, addr := range addrs {
		ready.Addresses = append(ready.Addresses, addr.String())
	}
	return obeyAll(ready, func(c serverCommand) (serverEvent, error) {
		if c.Tag != "Join" {
			return serverEvent{}, fmt.Errorf("no command %q", c.Tag)
		}
		srv.join(c.Peers, c.Members)
		return serverEvent{Tag: "Done"}, nil
	})
}

// A member of the cluster; others are known by node id alone.
type member struct {
	nodeID string
	peerID peer.ID
}

// A failure is an active entry of the negative cache.
type failure struct {
	cooldownUntil time.Time
	class         coordpb.FailureClass
}

// A server answers as Gantry's Go agents do: each query ranks all members
// anew, and each digest of a batch is one call of the pump.
type server struct {
	members  atomic.Pointer[[]member]
	slots    chan struct{}
	failures sync.Map // of failure, by digest
	pump     func(ctx context.Context, registry, repository, digest string, kind coordpb.PleasePullRequest_Kind) pumpResult
	inflight inflight

	intentServed, pullServed, pullStarted, streamErrors, strangers atomic.Int64
}

func newServer() *server {
	s := &server{slots: make(chan struct{}, maxStreams)}
	s.members.Store(&[]member{{nodeID: self}})
	s.inflight.startedAt = make(map[string]time.Time)
	s.pump = s.pull
	return s
}

func (s *server) join(peers []peer.ID, size int) {
	members := []member{{nodeID: self}}
	for index, id := range peers {
		members = append(members, member{nodeID: fmt.Sprintf("node-%d", 1_000_000+index), peerID: id})
	}
	for index := 1; len(members) < size; index++ {
		members = append(members, member{nodeID: fmt.Sprintf("node-%d", index)})
	}
	s.members.Store(&members)
}

func (s *server) handle(stream network.Stream) {
	select {
	case s.slots <- struct{}{}:
	default:
		s.streamErrors.Add(1)
		_ = stream.Reset()
		return
	}
	defer func() { <-s.slots }()
	defer stream.Close()
	if err := s.answer(stream); err != nil {
		s.streamErrors.Add(1)
	}
}

func (s *server) answer(stream network.Stream) error {
	if err := stream.SetDeadline(time.Now().Add(streamHandshakeTimeout)); err != nil {
		return err
	}
	request, err := readEnvelope(stream)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), dispatchTimeout)
	defer cancel()
	members := *s.members.Load()
	remote := stream.Conn().RemotePeer()
	if !slices.ContainsFunc(members, func(m member) bool { return m.peerID == remote }) {
		s.strangers.Add(1)
	}
	reply, err := s.dispatch(ctx, request, members)
	if err != nil {
		return err
	}
	return writeEnvelope(stream, reply)
}

func (s *server) dispatch(ctx context.Context, request *coordpb.Envelope, members []member) (*coordpb.Envelope, error) {
	switch msg := request.Msg.(type) {
	case *coordpb.Envelope_PullIntentRequest:
		intent, err := s.pullIntent(msg.PullIntentRequest.Digest, members)
		if err != nil {
			return nil, err
		}
		s.intentServed.Add(1)
		return &coordpb.Envelope{Msg: &coordpb.Envelope_PullIntentResponse{PullIntentResponse: intent}}, nil
	case *coordpb.Envelope_PleasePullRequest:
		results, err := s.pleasePull(ctx, msg.PleasePullRequest)
		if err != nil {
			return nil, err
		}
		s.pullServed.Add(1)
		return &coordpb.Envelope{Msg: &coordpb.Envelope_PleasePullResponse{PleasePullResponse: results}}, nil
	default:
		return nil, errors.New("not a request")
	}
}

func (s *server) pullIntent(digest string, members []member) (*coordpb.PullIntentResponse, error) {
	if !isDigest(digest) {
		return nil, fmt.Errorf("malformed digest %q", digest)
	}
	// The store is empty, as that of the server which it is compared with.
	intent := &coordpb.PullIntentResponse{HrwRank: rankOf(members, digest)}
	if startedAt, running := s.inflight.lookup(digest); running {
		intent.InFlight, intent.StartedAt = true, timestamppb.New(startedAt)
	}
	if failed, ok := s.lookupFailure(digest); ok {
		intent.RecentlyFailed = true
		intent.CooldownUntil, intent.FailureClass = timestamppb.New(failed.cooldownUntil), failed.class
	}
	return intent, nil
}

func (s *server) pleasePull(ctx context.Context, request *coordpb.PleasePullRequest) (*coordpb.PleasePullResponse, error) {
	switch {
	case request.UpstreamRegistry == "" || request.Repository == "":
		return nil, errors.New("a please_pull without registry or repository")
	case len(request.Digests) > maxDigests:
		return nil, fmt.Errorf("a please_pull for %d digests", len(request.Digests))
	}
	response := new(coordpb.PleasePullResponse)
	for _, digest := range request.Digests {
		if !isDigest(digest) {
			continue
		}
		pumped := s.pump(ctx, request.UpstreamRegistry, request.Repository, digest, request.Kind)
		result := &coordpb.PleasePullResponse_Result{Digest: digest, Outcome: pumped.outcome}
		switch pumped.outcome {
		case coordpb.PleasePullResponse_Result_OUTCOME_STARTED:
			s.pullStarted.Add(1)
			result.StartedAt = timestamppb.New(pumped.startedAt)
		case coordpb.PleasePullResponse_Result_OUTCOME_ALREADY_PULLING:
			result.StartedAt = timestamppb.New(pumped.startedAt)
		case coordpb.PleasePullResponse_Result_OUTCOME_RECENTLY_FAILED:
			result.CooldownUntil, result.FailureClass = timestamppb.New(pumped.failed.cooldownUntil), pumped.failed.class
		}
		response.Results = append(response.Results, result)
	}
	return response, nil
}

// A pumpResult is what the pump did about one digest.
type pumpResult struct {
	outcome   coordpb.PleasePullResponse_Result_Outcome
	startedAt time.Time
	failed    failure
}

// pull claims a digest; the pulls of a benchmark never end.
func (s *server) pull(_ context.Context, _, _, digest string, _ coordpb.PleasePullRequest_Kind) pumpResult {
	if failed, ok := s.lookupFailure(digest); ok {
		return pumpResult{outcome: coordpb.PleasePullResponse_Result_OUTCOME_RECENTLY_FAILED, failed: failed}
	}
	startedAt, owned := s.inflight.start(digest)
	if owned {
		return pumpResult{outcome: coordpb.PleasePullResponse_Result_OUTCOME_STARTED, startedAt: startedAt}
	}
	return pumpResult{outcome: coordpb.PleasePullResponse_Result_OUTCOME_ALREADY_PULLING, startedAt: startedAt}
}

func (s *server) lookupFailure(digest string) (failure, bool) {
	value, ok := s.failures.Load(digest)
	if !ok {
		return failure{}, false
	}
	failed := value.(failure)
	return failed, time.Now().Before(failed.cooldownUntil)
}

// inflight holds the pulls that run.
type inflight struct {
	mu        sync.Mutex
	startedAt map[string]time.Time
}

func (f *inflight) start(digest string) (startedAt time.Time, owned bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if startedAt, ok := f.startedAt[digest]; ok {
		return startedAt, false
	}
	startedAt = time.Now()
	f.startedAt[digest] = startedAt
	return startedAt, true
}

func (f *inflight) lookup(digest string) (time.Time, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	startedAt, ok := f.startedAt[digest]
	return startedAt, ok
}

// rankOf tells how many members are better than this one for a digest.
func rankOf(members []member, digest string) int32 {
	var (
		better int32
		room   [256]byte
	)
	scoreOf := func(nodeID string) [sha256.Size]byte {
		return sha256.Sum256(append(append(room[:0], nodeID...), digest...))
	}
	own := scoreOf(self)
	for _, m := range members {
		score := scoreOf(m.nodeID)
		order := slices.Compare(score[:], own[:])
		if order > 0 || (order == 0 && m.nodeID > self) {
			better++
		}
	}
	return better
}

func isDigest(text string) bool {
	hex, ok := strings.CutPrefix(text, "sha256:")
	if !ok || len(hex) != 2*sha256.Size {
		return false
	}
	for _, c := range []byte(hex) {
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f') {
			return false
		}
	}
	return true
}
