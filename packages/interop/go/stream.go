package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"gantry/interop/coordpb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-msgio"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// maxMessageBytes is the largest body of a frame.
const maxMessageBytes = 1 << 20

// A step is one call on a stream.
type step struct {
	Do string `json:"do"`
	// Message is an Envelope in the JSON form of protobuf.
	Message json.RawMessage `json:"message"`
	Bytes   []byte          `json:"bytes"`
	// Segment is how many bytes go into one write; all if 0.
	Segment int `json:"segment"`
	// Code is the reason of a reset, or of the end of a connection.
	Code uint32 `json:"code"`
}

// An outcome is what became of a step.
type outcome struct {
	Message json.RawMessage `json:"message,omitempty"`
	Bytes   []byte          `json:"bytes,omitempty"`
	Error   string          `json:"error,omitempty"`
}

// A stream has a name, and reads and writes frames.
type stream struct {
	network.Stream
	name   string
	reader msgio.Reader
	writer msgio.Writer
}

func newStream(name string, s network.Stream) *stream {
	return &stream{
		Stream: s,
		name:   name,
		reader: msgio.NewVarintReaderSize(s, maxMessageBytes),
		writer: msgio.NewVarintWriter(s),
	}
}

func (s *stream) do(st step) outcome {
	var (
		out outcome
		err error
	)
	switch st.Do {
	case "write":
		err = s.write(st.Message)
	case "writeBytes":
		err = s.writeBytes(st.Bytes, st.Segment)
	case "read":
		out.Message, err = s.read()
	case "readAll":
		out.Bytes, err = io.ReadAll(s)
	case "closeWrite":
		err = s.CloseWrite()
	case "close":
		err = s.Close()
	case "reset":
		err = s.ResetWithError(network.StreamErrorCode(st.Code))
	case "closeConnection":
		err = s.Conn().CloseWithError(network.ConnErrorCode(st.Code))
	default:
		err = fmt.Errorf("no step %q", st.Do)
	}
	if err != nil {
		out.Error = reasonOf(err)
	}
	return out
}

// write sends a message in one frame.
func (s *stream) write(message json.RawMessage) error {
	var envelope coordpb.Envelope
	if err := protojson.Unmarshal(message, &envelope); err != nil {
		return err
	}
	body, err := proto.Marshal(&envelope)
	if err != nil {
		return err
	}
	return s.writer.WriteMsg(body)
}

func (s *stream) writeBytes(bytes []byte, segment int) error {
	if segment == 0 {
		segment = max(len(bytes), 1)
	}
	for len(bytes) > 0 {
		n := min(segment, len(bytes))
		if _, err := s.Write(bytes[:n]); err != nil {
			return err
		}
		bytes = bytes[n:]
	}
	return nil
}

// read takes the message of the next frame.
func (s *stream) read() (json.RawMessage, error) {
	body, err := s.reader.ReadMsg()
	if err != nil {
		return nil, err
	}
	defer s.reader.ReleaseMsg(body)
	var envelope coordpb.Envelope
	if err := proto.Unmarshal(body, &envelope); err != nil {
		return nil, err
	}
	return protojson.Marshal(&envelope)
}

// canonical writes an envelope anew, without what this program does not know.
func canonical(body []byte) outcome {
	var envelope coordpb.Envelope
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(body, &envelope); err != nil {
		return outcome{Error: reasonOf(err)}
	}
	bytes, err := proto.Marshal(&envelope)
	if err != nil {
		return outcome{Error: reasonOf(err)}
	}
	return outcome{Bytes: bytes}
}

// reasonOf gives one word for what callers tell apart, and Go's text for the rest.
func reasonOf(err error) string {
	switch {
	case errors.Is(err, network.ErrReset):
		return "reset"
	case errors.Is(err, io.EOF):
		return "eof"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "unexpected eof"
	case errors.Is(err, msgio.ErrMsgTooLarge):
		return "too large"
	default:
		return err.Error()
	}
}
