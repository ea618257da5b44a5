//! What can be done on a stream.

use std::io;

use base64::{Engine, prelude::BASE64_STANDARD};
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::Stream;
use prost::Message;
use serde::Deserialize;
use serde_json::{Value, json};
use unsigned_varint::{aio, encode, io::ReadError};

use crate::coordpb::Envelope;

/// The largest body of a frame.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// One call on a stream.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "camelCase")]
pub enum Step {
    /// Sends a message, given in the JSON form of protobuf, in one frame.
    Write {
        message: Envelope,
    },
    /// Sends bytes, so many in one write; all if 0.
    WriteBytes {
        bytes: String,
        #[serde(default)]
        segment: usize,
    },
    /// Takes the message of the next frame.
    Read,
    /// Takes everything until the end.
    ReadAll,
    CloseWrite,
    Close,
    Reset,
}

impl Step {
    /// Gives a message, or bytes, or an error, or nothing if there is nothing to tell.
    pub async fn take(self, stream: &mut Option<Stream>) -> Value {
        match self.attempt(stream).await {
            Ok(outcome) => outcome,
            Err(error) => json!({ "error": reason_of(&error) }),
        }
    }

    async fn attempt(self, slot: &mut Option<Stream>) -> io::Result<Value> {
        let stream = slot.as_mut().ok_or_else(|| io::Error::other("the stream was closed"))?;
        match self {
            Step::Write { message } => {
                let body = message.encode_to_vec();
                let mut buffer = encode::usize_buffer();
                stream
                    .write_all(&[encode::usize(body.len(), &mut buffer), &body].concat())
                    .await?;
                stream.flush().await?;
            }
            Step::WriteBytes { bytes, segment } => {
                let bytes = BASE64_STANDARD.decode(bytes).map_err(io::Error::other)?;
                for part in bytes.chunks(if segment == 0 { bytes.len().max(1) } else { segment }) {
                    stream.write_all(part).await?;
                    stream.flush().await?;
                }
            }
            Step::Read => return Ok(json!({ "message": read(stream).await? })),
            Step::ReadAll => {
                let mut bytes = Vec::new();
                stream.read_to_end(&mut bytes).await?;
                if !bytes.is_empty() {
                    return Ok(json!({ "bytes": BASE64_STANDARD.encode(bytes) }));
                }
            }
            Step::CloseWrite => stream.close().await?,
            Step::Close => {
                stream.close().await?;
                *slot = None;
            }
            // A stream that is dropped before both sides have ended it is reset.
            Step::Reset => *slot = None,
        }
        Ok(json!({}))
    }
}

async fn read(stream: &mut Stream) -> io::Result<Envelope> {
    let length = aio::read_usize(&mut *stream).await.map_err(|error| match error {
        ReadError::Io(error) => error,
        error => io::Error::other(error),
    })?;
    if length > MAX_MESSAGE_BYTES {
        return Err(io::Error::other("too large"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Envelope::decode(body.as_slice()).map_err(io::Error::other)
}

/// One word for what callers tell apart, and Rust's text for the rest.
fn reason_of(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "eof".to_owned(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::WriteZero => "reset".to_owned(),
        _ => error.to_string(),
    }
}
