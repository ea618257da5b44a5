//! A rust-libp2p node that does with its streams what it is told: one JSON
//! command per line of its input, one JSON event per line of its output. It
//! ends with its input.

mod step;

#[allow(clippy::all)]
mod coordpb {
    include!("gen/gantry.coord.v1.rs");
}

use std::{collections::HashMap, env, error::Error, mem, sync::Arc, time::Duration};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol, Swarm, SwarmBuilder,
    core::upgrade::Version,
    multiaddr::Protocol,
    noise,
    swarm::{DialError, SwarmEvent, dial_opts::DialOpts},
    tcp, yamux,
};
use libp2p_stream::{Behaviour, Control};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader, stdin},
    sync::Mutex,
};

use step::Step;

/// Opens a stream, or names one, and says what to do on it. Commands run at the
/// same time, the steps of one run one after the other.
#[derive(Deserialize)]
struct Command {
    id: u64,
    open: Option<Open>,
    stream: Option<String>,
    steps: Vec<Step>,
}

/// Where a stream leads to: a multiaddr that ends in `/p2p/<id>`. The name of
/// the protocol goes out together with the first bytes, whatever is asked.
#[derive(Deserialize)]
struct Open {
    addr: Multiaddr,
    protocols: Vec<String>,
}

/// A stream that has a name, until it is closed or reset.
#[derive(Clone)]
struct Named {
    name: String,
    peer: PeerId,
    protocol: String,
    stream: Arc<Mutex<Option<Stream>>>,
}

impl Named {
    fn describe(&self, event: &str) -> Value {
        json!({ "event": event, "stream": self.name, "peer": self.peer.to_string(), "protocol": self.protocol })
    }
}

type Streams = Arc<std::sync::Mutex<HashMap<String, Named>>>;

fn emit(event: Value) {
    println!("{event}");
}

fn fail(id: u64, error: impl ToString) {
    emit(json!({ "event": "done", "id": id, "error": error.to_string() }));
}

fn add(streams: &Streams, peer: PeerId, protocol: &str, stream: Stream) -> Named {
    let mut streams = streams.lock().unwrap();
    let named = Named {
        name: (streams.len() + 1).to_string(),
        peer,
        protocol: protocol.to_owned(),
        stream: Arc::new(Mutex::new(Some(stream))),
    };
    streams.insert(named.name.clone(), named.clone());
    named
}

async fn run(id: u64, named: Named, steps: Vec<Step>) {
    let mut stream = named.stream.lock().await;
    let mut outcomes = Vec::new();
    for step in steps {
        outcomes.push(step.take(&mut stream).await);
    }
    let mut done = named.describe("done");
    done["id"] = json!(id);
    done["outcomes"] = json!(outcomes);
    emit(done);
}

/// Opens a stream to a connected peer and takes the steps on it.
async fn open(mut control: Control, streams: Streams, peer: PeerId, command: Command) {
    let Some(protocol) = command.open.and_then(|open| open.protocols.into_iter().next()) else {
        return fail(command.id, "no protocol");
    };
    let opening = match StreamProtocol::try_from_owned(protocol.clone()) {
        Ok(protocol) => control.open_stream(peer, protocol).await,
        Err(error) => return fail(command.id, error),
    };
    match opening {
        Ok(stream) => run(command.id, add(&streams, peer, &protocol, stream), command.steps).await,
        Err(error) => fail(command.id, error),
    }
}

fn build() -> Result<Swarm<Behaviour>, Box<dyn Error>> {
    Ok(SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|_| Behaviour::new())?
        .with_swarm_config(|config| {
            config
                .with_substream_upgrade_protocol_override(Version::V1Lazy)
                .with_idle_connection_timeout(Duration::MAX)
        })
        .build())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let spoken = env::args()
        .skip_while(|arg| arg != "-protocol")
        .nth(1)
        .ok_or("-protocol is missing")?;
    let mut swarm = build()?;
    let control = swarm.behaviour().new_control();
    let mut accepting = control
        .clone()
        .accept(StreamProtocol::try_from_owned(spoken.clone())?)?;
    let streams = Streams::default();
    // Commands that wait for a connection.
    let mut waiting: Vec<(PeerId, Command)> = Vec::new();
    let mut commands = BufReader::new(stdin()).lines();
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;

    loop {
        tokio::select! {
            line = commands.next_line() => {
                let Some(line) = line? else { return Ok(()) };
                let command: Command = serde_json::from_str(&line)?;
                if let Some(Open { addr, .. }) = &command.open {
                    let Some(Protocol::P2p(peer)) = addr.iter().last() else {
                        fail(command.id, "the address names no peer");
                        continue;
                    };
                    match swarm.dial(DialOpts::peer_id(peer).addresses(vec![addr.clone()]).build()) {
                        Ok(()) => waiting.push((peer, command)),
                        Err(DialError::DialPeerConditionFalse(_)) if swarm.is_connected(&peer) => {
                            tokio::spawn(open(control.clone(), streams.clone(), peer, command));
                        }
                        Err(error) => fail(command.id, error),
                    }
                    continue;
                }
                let named = command.stream.and_then(|name| streams.lock().unwrap().get(&name).cloned());
                match named {
                    Some(named) => drop(tokio::spawn(run(command.id, named, command.steps))),
                    None => fail(command.id, "no such stream"),
                }
            }
            Some((peer, stream)) = accepting.next() => emit(add(&streams, peer, &spoken, stream).describe("stream")),
            event = swarm.select_next_some() => match event {
                SwarmEvent::NewListenAddr { address, .. } => {
                    let peer = *swarm.local_peer_id();
                    let addr = address.with(Protocol::P2p(peer)).to_string();
                    emit(json!({ "event": "ready", "peer": peer.to_string(), "addrs": [addr] }));
                }
                SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                    for (peer, command) in mem::take(&mut waiting) {
                        if peer == peer_id {
                            tokio::spawn(open(control.clone(), streams.clone(), peer, command));
                        } else {
                            waiting.push((peer, command));
                        }
                    }
                }
                SwarmEvent::OutgoingConnectionError { error, .. } => {
                    for (_, command) in mem::take(&mut waiting) {
                        fail(command.id, &error);
                    }
                }
                _ => {}
            }
        }
    }
}
