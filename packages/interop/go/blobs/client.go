package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/http2"
)

// A fetch is one request.
type fetch struct {
	// Client is "x/net", as in the Go agents, or "net/http".
	Client  string            `json:"client"`
	Method  string            `json:"method"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
}

// A fetched is a response, its body as length and digest.
type fetched struct {
	Status  int               `json:"status"`
	Proto   string            `json:"proto"`
	Headers map[string]string `json:"headers"`
	Length  int64             `json:"length"`
	Digest  string            `json:"digest"`
}

// Both speak nothing but HTTP/2 with prior knowledge, and keep a connection for
// each address.
var clients = map[string]*http.Client{
	"x/net": {
		Timeout: time.Minute,
		Transport: &http2.Transport{
			AllowHTTP: true,
			DialTLSContext: func(ctx context.Context, network, addr string, _ *tls.Config) (net.Conn, error) {
				return (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, network, addr)
			},
			ReadIdleTimeout: 10 * time.Second,
		},
	},
	"net/http": {
		Timeout:   time.Minute,
		Transport: &http.Transport{Protocols: onlyH2C()},
	},
}

func onlyH2C() *http.Protocols {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return protocols
}

func (f *fetch) do(id int) answer {
	result, err := f.send()
	if err != nil {
		return answer{ID: id, Error: err.Error()}
	}
	return answer{ID: id, Fetched: result}
}

func (f *fetch) send() (*fetched, error) {
	request, err := http.NewRequest(f.Method, f.URL, nil)
	if err != nil {
		return nil, err
	}
	for name, value := range f.Headers {
		request.Header.Set(name, value)
	}
	response, err := clients[f.Client].Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	hash := sha256.New()
	length, err := io.Copy(hash, response.Body)
	if err != nil {
		return nil, err
	}
	result := &fetched{
		Status:  response.StatusCode,
		Proto:   response.Proto,
		Headers: make(map[string]string),
		Length:  length,
		Digest:  "sha256:" + hex.EncodeToString(hash.Sum(nil)),
	}
	for name := range response.Header {
		result.Headers[strings.ToLower(name)] = response.Header.Get(name)
	}
	return result, nil
}
