package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gantry/interop/coordpb"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// patience is how long one request may take; thousands of handshakes may share
// two processors here.
const patience = 60 * time.Second

// A loadCommand is one of bench's Rival.ts.
type loadCommand struct {
	Tag string `json:"_tag"`
	// Hosts is how many peers are made that nobody has met, instead of those made before.
	Hosts int `json:"hosts"`
	// Server is a multiaddr that ends in /p2p/<id>.
	Server string `json:"server"`
	// Of is "query" or "batch".
	Of string `json:"of"`
	// Digests is how many a batch holds, or queries ask about in turn; 0 if each query is for a new one.
	Digests     int   `json:"digests"`
	Concurrency int   `json:"concurrency"`
	Millis      int64 `json:"millis"`
	// Count is after how many requests to end, if that comes first and is not 0.
	Count int64 `json:"count"`
}

type loadEvent struct {
	Tag   string   `json:"_tag"`
	Peers []string `json:"peers,omitempty"`
	// Answered and Failed are numbers of requests.
	Answered int    `json:"answered"`
	Failed   int    `json:"failed"`
	Error    string `json:"error,omitempty"`
	// Seconds is how long all of them took.
	Seconds float64 `json:"seconds"`
	// P50, P99 and Max are milliseconds from question to answer.
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// A loader has a few peers that share the load of requests, so that none comes
// near the streams that a server grants to one, and others that connect once.
type loader struct {
	regulars, newcomers []host.Host
	asked               atomic.Int64
}

const regulars = 4

func load() error {
	l := new(loader)
	var err error
	if l.regulars, err = makeHosts(regulars); err != nil {
		return err
	}
	return obeyAll(loadEvent{Tag: "Ready", Peers: idsOf(l.regulars)}, l.obey)
}

func (l *loader) obey(c loadCommand) (loadEvent, error) {
	switch c.Tag {
	case "Make":
		var err error
		l.newcomers, err = makeHosts(c.Hosts)
		return loadEvent{Tag: "Made"}, err
	case "Load":
		return l.load(c)
	case "Connect":
		return l.connect(c)
	default:
		return loadEvent{}, fmt.Errorf("no command %q", c.Tag)
	}
}

func makeHosts(count int) ([]host.Host, error) {
	hosts := make([]host.Host, count)
	for i := range hosts {
		var err error
		if hosts[i], err = newHost(libp2p.NoListenAddrs, libp2p.DisableMetrics()); err != nil {
			return nil, err
		}
	}
	return hosts, nil
}

func idsOf(hosts []host.Host) []string {
	ids := make([]string, len(hosts))
	for i, h := range hosts {
		ids[i] = h.ID().String()
	}
	return ids
}

// load has workers ask, each again when it has been answered, until the time
// is up.
func (l *loader) load(c loadCommand) (loadEvent, error) {
	target, err := peer.AddrInfoFromString(c.Server)
	if err != nil {
		return loadEvent{}, err
	}
	for _, h := range l.regulars {
		if err := h.Connect(context.Background(), *target); err != nil {
			return loadEvent{}, err
		}
	}
	requests := l.requestsFor(c)
	end := time.Now().Add(time.Duration(c.Millis) * time.Millisecond)
	var number atomic.Int64
	return measure(c.Concurrency, func(worker int, took func(time.Time, error)) {
		for time.Now().Before(end) {
			n := number.Add(1)
			if c.Count > 0 && n > c.Count {
				return
			}
			request := requests(n)
			begun := time.Now()
			took(begun, ask(l.regulars[worker%regulars], target.ID, request))
		}
	}), nil
}

// requestsFor gives the request of each number, none of which costs much.
func (l *loader) requestsFor(c loadCommand) func(number int64) *coordpb.Envelope {
	if c.Of == "query" && c.Digests == 0 {
		return func(int64) *coordpb.Envelope {
			// In this run and those before it nobody asked about it.
			return queryFor(digestOf(fmt.Sprintf("new %d", l.asked.Add(1))))
		}
	}
	digests := make([]string, c.Digests)
	for i := range digests {
		digests[i] = digestOf(fmt.Sprintf("%s %d", c.Of, i))
	}
	if c.Of == "batch" {
		batch := batchOf(digests)
		return func(int64) *coordpb.Envelope { return batch }
	}
	return func(number int64) *coordpb.Envelope { return queryFor(digests[number%int64(len(digests))]) }
}

// connect lets the newcomers come, so many at once, or if none are named all
// of them spread over the time: each dials, asks once and leaves.
func (l *loader) connect(c loadCommand) (loadEvent, error) {
	target, err := peer.AddrInfoFromString(c.Server)
	if err != nil {
		return loadEvent{}, err
	}
	come := func(index int, took func(time.Time, error)) {
		h := l.newcomers[index]
		begun := time.Now()
		err := h.Connect(context.Background(), *target)
		if err == nil {
			err = ask(h, target.ID, queryFor(digestOf("query 0")))
		}
		took(begun, err)
	}
	var done loadEvent
	if c.Concurrency > 0 {
		var next atomic.Int64
		done = measure(c.Concurrency, func(_ int, took func(time.Time, error)) {
			for {
				index := int(next.Add(1)) - 1
				if index >= len(l.newcomers) {
					return
				}
				come(index, took)
				_ = l.newcomers[index].Close()
			}
		})
	} else {
		count := len(l.newcomers)
		within := time.Duration(c.Millis) * time.Millisecond
		done = measure(count, func(index int, took func(time.Time, error)) {
			time.Sleep(within * time.Duration(index) / time.Duration(count))
			come(index, took)
		})
		for _, h := range l.newcomers {
			_ = h.Close()
		}
	}
	l.newcomers = nil
	return done, nil
}

// measure runs workers and sums up what they tell of their requests.
func measure(workers int, work func(worker int, took func(begun time.Time, err error))) loadEvent {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		done  = loadEvent{Tag: "Loaded"}
		times []float64
	)
	begun := time.Now()
	for worker := range workers {
		wg.Go(func() {
			var own []float64
			work(worker, func(begun time.Time, err error) {
				if err == nil {
					own = append(own, float64(time.Since(begun))/float64(time.Millisecond))
					return
				}
				mu.Lock()
				defer mu.Unlock()
				done.Failed++
				done.Error = err.Error()
			})
			mu.Lock()
			defer mu.Unlock()
			times = append(times, own...)
		})
	}
	wg.Wait()
	done.Seconds = time.Since(begun).Seconds()
	done.Answered = len(times)
	if len(times) > 0 {
		slices.Sort(times)
		at := func(part float64) float64 { return times[int(part*float64(len(times)-1))] }
		done.P50, done.P99, done.Max = at(0.5), at(0.99), at(1)
	}
	return done
}

// ask makes one call, as Gantry's Go agents do.
func ask(h host.Host, server peer.ID, request *coordpb.Envelope) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := h.NewStream(ctx, server, protocolID)
	if err != nil {
		return err
	}
	reply, err := exchange(ctx, s, request)
	if err != nil {
		_ = s.Reset()
		return err
	}
	_ = s.Close()
	return check(request, reply)
}

// exchange sends one frame and takes one.
func exchange(ctx context.Context, s network.Stream, request *coordpb.Envelope) (*coordpb.Envelope, error) {
	if deadline, ok := ctx.Deadline(); ok {
		if err := s.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	if err := writeEnvelope(s, request); err != nil {
		return nil, err
	}
	if err := s.CloseWrite(); err != nil {
		return nil, err
	}
	return readEnvelope(s)
}

// check holds a reply against its request: a server that does not do the work
// is not to be measured.
func check(request, reply *coordpb.Envelope) error {
	if batch := request.GetPleasePullRequest(); batch != nil {
		results := reply.GetPleasePullResponse().GetResults()
		if len(results) != len(batch.Digests) {
			return fmt.Errorf("%d results for %d digests", len(results), len(batch.Digests))
		}
		for i, result := range results {
			if result.Digest != batch.Digests[i] || result.StartedAt == nil {
				return fmt.Errorf("result %d is %v", i, result)
			}
		}
		return nil
	}
	if reply.GetPullIntentResponse() == nil || reply.GetPullIntentResponse().HrwRank < 0 {
		return fmt.Errorf("the reply to a query is %v", reply)
	}
	return nil
}

func queryFor(digest string) *coordpb.Envelope {
	return &coordpb.Envelope{Msg: &coordpb.Envelope_PullIntentRequest{
		PullIntentRequest: &coordpb.PullIntentRequest{Digest: digest},
	}}
}

func batchOf(digests []string) *coordpb.Envelope {
	return &coordpb.Envelope{Msg: &coordpb.Envelope_PleasePullRequest{
		PleasePullRequest: &coordpb.PleasePullRequest{
			UpstreamRegistry: "registry.example.com",
			Repository:       "library/nginx",
			Kind:             coordpb.PleasePullRequest_KIND_BLOB,
			Digests:          digests,
		},
	}}
}

// digestOf is the digest of a text, as if it were a blob.
func digestOf(text string) string {
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(text)))
}
