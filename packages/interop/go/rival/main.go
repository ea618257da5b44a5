// Command rival is what Gantry for TypeScript is measured against: a server
// that does the work of Gantry's Go agents (-serve), and a client that loads a
// server of any language (-load). Both take one JSON command per line of their
// input and answer each with one JSON event; they end with their input.
package main

import (
	"errors"
	"flag"
	"log"
)

func main() {
	log.SetFlags(0)
	serves := flag.Bool("serve", false, "serve the coordination protocol")
	loads := flag.Bool("load", false, "load servers with requests")
	flag.Parse()
	err := errors.New("either -serve or -load")
	switch {
	case *serves:
		err = serve()
	case *loads:
		err = load()
	}
	if err != nil {
		log.Fatal(err)
	}
}
