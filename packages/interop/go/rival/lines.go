package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// obeyAll tells that it is ready, and answers the commands on the standard
// input with one event each, in order, until it ends.
func obeyAll[Command, Event any](ready Event, obey func(Command) (Event, error)) error {
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(ready); err != nil {
		return err
	}
	for in := json.NewDecoder(os.Stdin); ; {
		var c Command
		if err := in.Decode(&c); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading a command: %w", err)
		}
		e, err := obey(c)
		if err != nil {
			return err
		}
		if err := out.Encode(e); err != nil {
			return err
		}
	}
}
