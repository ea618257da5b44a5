package main

import (
	"bytes"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/h2c"
)

// A serve is a server with one blob.
type serve struct {
	// Protocols is "h2c", or "both" for HTTP/1.1 too, as the Go agents have it.
	Protocols string `json:"protocols"`
	Blob      []byte `json:"blob"`
	// Does is what becomes of a request: "deliver", "busy", "absent", or "cut",
	// which breaks off after CutAfter bytes.
	Does     string `json:"does"`
	CutAfter int64  `json:"cutAfter"`
}

// A request as it came.
type request struct {
	Proto    string `json:"proto"`
	Path     string `json:"path"`
	Range    string `json:"range,omitempty"`
	Mirrored string `json:"mirrored,omitempty"`
}

type server struct {
	serve
	address string

	mu       sync.Mutex
	requests []request
}

func (s serve) start() (*server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	started := &server{serve: s, address: listener.Addr().String()}
	httpServer := &http.Server{Handler: started, ReadHeaderTimeout: 5 * time.Second}
	if s.Protocols == "h2c" {
		httpServer.Protocols = onlyH2C()
	} else {
		httpServer.Handler = h2c.NewHandler(started, &http2.Server{})
	}
	go httpServer.Serve(listener)
	return started, nil
}

func (s *server) asked() []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, request{
		Proto:    r.Proto,
		Path:     r.URL.Path,
		Range:    r.Header.Get("Range"),
		Mirrored: r.Header.Get("Gantry-Mirrored"),
	})
	s.mu.Unlock()
	switch s.Does {
	case "busy":
		w.Header().Set("Retry-After", "1")
		http.Error(w, "busy", http.StatusTooManyRequests)
		return
	case "absent":
		http.NotFound(w, r)
		return
	case "cut":
		w = &cutting{ResponseWriter: w, left: s.CutAfter}
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Docker-Content-Digest", r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:])
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.Blob))
}

// A cutting writer lets so many bytes through and then breaks the response off.
type cutting struct {
	http.ResponseWriter
	left int64
}

func (c *cutting) Write(p []byte) (int, error) {
	if int64(len(p)) < c.left {
		c.left -= int64(len(p))
		return c.ResponseWriter.Write(p)
	}
	if _, err := c.ResponseWriter.Write(p[:c.left]); err != nil {
		return 0, err
	}
	if err := http.NewResponseController(c.ResponseWriter).Flush(); err != nil {
		return 0, err
	}
	panic(http.ErrAbortHandler)
}
