//! The way out: each connection to the proxy's address becomes one yamux stream to the host.

mod port;

use crate::ports::{self, PortError};
use crate::report;
use futures::future::poll_fn;
use futures::{AsyncRead, AsyncWrite};
use particle_vm_protocol::{Failure, FailureKind, GUEST_PROXY_ADDRESS, MAX_NETWORK_STREAMS, NETWORK_PORT};
use port::Port;
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::thread;
use thiserror::Error;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use yamux::{Config, Connection, ConnectionError, Mode, Stream};

/// Connections at a time; further clients wait in the listener's queue. It is half of what the host allows, because the
/// host may learn of the end of a stream after it learns of the next one.
const MAX_CONNECTIONS: usize = MAX_NETWORK_STREAMS / 2;

/// Why there is no way out.
#[derive(Debug, Error)]
pub enum NetError {
    /// The port cannot be used.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The kernel does not give what is needed.
    #[error("cannot listen on {GUEST_PROXY_ADDRESS}")]
    Listen(#[source] io::Error),
    /// The channel to the host has failed.
    #[error("the network channel to the host broke")]
    Channel(#[source] ConnectionError),
}

/// Why the way out has ended.
static END: Mutex<Option<Failure>> = Mutex::new(None);

/// Someone who waits for a stream.
type Request = oneshot::Sender<Stream>;

/// Begin to listen, when the machine has the port, on a thread of its own. Clients can connect from now on.
///
/// # Errors
/// When the address cannot be listened on.
pub fn start() -> Result<(), NetError> {
    if !ports::exists(NETWORK_PORT) {
        return Ok(());
    }
    let listener = TcpListener::bind(GUEST_PROXY_ADDRESS).map_err(NetError::Listen)?;
    listener.set_nonblocking(true).map_err(NetError::Listen)?;
    thread::spawn(move || {
        if let Err(error) = serve(listener) {
            // The clients see that nobody listens any more; why, they cannot know.
            report::complain(&error);
            *END.lock().unwrap_or_else(PoisonError::into_inner) = Some(report::failure(FailureKind::Agent, &error));
        }
    });
    Ok(())
}

/// `failure` of a command, with a word of why there is no way out any more, if there is none.
pub fn explain(failure: Failure) -> Failure {
    match &*END.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(end) => Failure { message: format!("{}\n{}", failure.message, end.message), ..failure },
        None => failure,
    }
}

fn serve(listener: TcpListener) -> Result<(), NetError> {
    let port = ports::open(NETWORK_PORT)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(NetError::Listen)?;
    runtime.block_on(async {
        let port = Port::new(port).map_err(NetError::Listen)?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(NetError::Listen)?;
        bridge(port.compat(), listener).await
    })
}

/// Accept clients and drive the channel, until the channel ends.
async fn bridge<P>(port: P, listener: tokio::net::TcpListener) -> Result<(), NetError>
where
    P: AsyncRead + AsyncWrite + Unpin,
{
    let mut config = Config::default();
    config.set_max_num_streams(MAX_NETWORK_STREAMS);
    // The least that this number of streams needs: what clients are slow to read must not fill the memory.
    config.set_max_connection_receive_window(Some(MAX_NETWORK_STREAMS * yamux::DEFAULT_CREDIT as usize));
    let connection = Connection::new(port, config, Mode::Client);
    let (requests, receiver) = mpsc::channel(1);
    tokio::select! {
        ended = drive(connection, receiver) => ended.map_err(NetError::Channel),
        error = accept(listener, requests) => Err(NetError::Listen(error)),
    }
}

/// Move the channel's frames and open a stream for each request. Ends when the host closes the channel.
async fn drive<P>(mut connection: Connection<P>, mut requests: mpsc::Receiver<Request>) -> Result<(), ConnectionError>
where
    P: AsyncRead + AsyncWrite + Unpin,
{
    let mut waiting: Option<Request> = None;
    poll_fn(|context| {
        loop {
            if waiting.is_none()
                && let Poll::Ready(request) = requests.poll_recv(context)
            {
                waiting = request;
            }
            if waiting.is_some()
                && let Poll::Ready(stream) = connection.poll_new_outbound(context)
            {
                match (stream, waiting.take()) {
                    // Fails when the client has gone; then the stream is dropped, which resets it.
                    (Ok(stream), Some(request)) => drop(request.send(stream)),
                    (Ok(_), None) => {}
                    (Err(error), _) => return Poll::Ready(Err(error)),
                }
                continue;
            }
            match connection.poll_next_inbound(context) {
                // The host opens no streams.
                Poll::Ready(Some(Ok(stream))) => drop(stream),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

async fn accept(listener: tokio::net::TcpListener, requests: mpsc::Sender<Request>) -> io::Error {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { continue };
        match listener.accept().await {
            Ok((client, _)) => {
                let requests = requests.clone();
                tokio::spawn(async move {
                    carry(client, &requests).await;
                    drop(permit);
                });
            }
            // The client has gone already.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return error,
        }
    }
}

/// Carry one connection. Each direction ends by itself: a client may close its sending half and still read the answer.
async fn carry(mut client: TcpStream, requests: &mpsc::Sender<Request>) {
    // A stream exists for the host from its first byte on; one that is closed before would wait for ever. HTTP clients
    // speak first.
    if !matches!(client.peek(&mut [0]).await, Ok(1..)) {
        return;
    }
    let (request, stream) = oneshot::channel();
    // Both fail only when the channel has ended; the client sees its connection closed.
    if requests.send(request).await.is_err() {
        return;
    }
    let Ok(stream) = stream.await else { return };
    // What fails here is the client's connection or the host's; both see it by themselves.
    let _ = copy_bidirectional(&mut client, &mut stream.compat()).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{AsyncReadExt, AsyncWriteExt};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// A host that answers each stream, when its sending half is closed, with what it has received.
    async fn host<P: AsyncRead + AsyncWrite + Unpin>(port: P) {
        let mut connection = Connection::new(port, Config::default(), Mode::Server);
        while let Some(Ok(mut stream)) = poll_fn(|context| connection.poll_next_inbound(context)).await {
            tokio::spawn(async move {
                let mut received = Vec::new();
                stream.read_to_end(&mut received).await.unwrap();
                stream.write_all(&received).await.unwrap();
                stream.close().await.unwrap();
            });
        }
    }

    async fn ask(address: std::net::SocketAddr, bytes: Vec<u8>) {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(&bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, bytes);
    }

    #[tokio::test]
    async fn more_clients_than_connections_are_served_and_half_closes_are_carried() {
        let (ours, hosts) = tokio::io::duplex(4096);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(host(hosts.compat()));
        tokio::spawn(bridge(ours.compat(), listener));
        let clients = (0..2 * MAX_CONNECTIONS).map(|number| ask(address, vec![number as u8; 1000 * number]));
        futures::future::join_all(clients).await;
    }

    #[tokio::test]
    async fn the_end_of_the_channel_ends_the_listener() {
        let (ours, hosts) = tokio::io::duplex(4096);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(hosts);
        // Whether yamux calls this an error does not matter here.
        let _ = bridge(ours.compat(), listener).await;
        assert!(TcpStream::connect(address).await.is_err());
    }
}
