// Command blobs fetches blobs and hands them out over HTTP/2 with prior
// knowledge, as Gantry's Go agents do, and does what it is told: one JSON
// command per line of its input, one JSON answer per line of its output. It
// ends with its input.
package main

import (
	"encoding/json"
	"log"
	"os"
	"sync"
)

// A command fetches, or begins to serve, or asks what a server was asked.
// Commands run at the same time.
type command struct {
	ID    int    `json:"id"`
	Fetch *fetch `json:"fetch"`
	Serve *serve `json:"serve"`
	// Asked is the ID of the command that began to serve.
	Asked int `json:"asked"`
}

// An answer is what came of a command.
type answer struct {
	ID      int       `json:"id"`
	Error   string    `json:"error,omitempty"`
	Fetched *fetched  `json:"fetched,omitempty"`
	Address string    `json:"address,omitempty"`
	Asked   []request `json:"asked,omitempty"`
}

func main() {
	log.SetFlags(0)
	var (
		mu      sync.Mutex
		out     = json.NewEncoder(os.Stdout)
		servers = make(map[int]*server)
	)
	emit := func(a answer) {
		mu.Lock()
		defer mu.Unlock()
		if err := out.Encode(a); err != nil {
			log.Fatal(err)
		}
	}
	for in := json.NewDecoder(os.Stdin); in.More(); {
		var c command
		if err := in.Decode(&c); err != nil {
			log.Fatalf("reading a command: %v", err)
		}
		switch {
		case c.Fetch != nil:
			go func() { emit(c.Fetch.do(c.ID)) }()
		case c.Serve != nil:
			s, err := c.Serve.start()
			if err != nil {
				emit(answer{ID: c.ID, Error: err.Error()})
				continue
			}
			servers[c.ID] = s
			emit(answer{ID: c.ID, Address: s.address})
		default:
			emit(answer{ID: c.ID, Asked: servers[c.Asked].asked()})
		}
	}
}
