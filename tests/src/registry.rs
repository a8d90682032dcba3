//! A registry of container images on loopback that does as it is told: it asks for a password or a token, is busy, breaks
//! off, lies, speaks TLS with a certificate that nobody knows.

use crate::image::{Image, MANIFEST, digest};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The repository that it has.
pub const NAME: &str = "team/image";

/// The token that its token server gives.
const TOKEN: &str = "a-token-for-pulling";

/// What it does with a request instead of what is right.
#[derive(Debug, Clone)]
pub enum Act {
    /// It answers so.
    Status(u16, &'static str, &'static str),
    /// It sends so many bytes and hangs up.
    Cut(usize),
    /// It sends so many bytes, and nothing after them.
    Stall(usize),
    /// It sends so many bytes and says that this is all.
    Short(usize),
    /// It sends the whole, whatever part was asked for.
    Whole,
    /// It sends other bytes of the same number.
    Wrong,
    /// It sends more bytes.
    Long,
    /// It sends the client there.
    Redirect(String),
}

/// Whom it lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// Everybody.
    None,
    /// `user:pass`.
    Basic,
    /// A token, which `user:pass` gets.
    Token,
    /// A token from a server that is named by an address in the open.
    TokenInTheOpen,
}

/// A request that it got.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its path.
    pub path: String,
    /// Its fields, with names in lower case.
    pub fields: Vec<(String, String)>,
}

impl Seen {
    /// A field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

/// The registry; it ends with its handle.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Its certificate, in PEM, if it speaks TLS.
    pub certificate: Option<String>,
}

struct Shared {
    files: Mutex<BTreeMap<String, (String, Vec<u8>)>>,
    acts: Mutex<Vec<(String, VecDeque<Act>, bool)>>,
    auth: Mutex<Auth>,
    seen: Mutex<Vec<Seen>>,
    tls: Option<Arc<ServerConfig>>,
    ended: AtomicBool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

impl Registry {
    /// Start one on a free port of 127.0.0.1 that has nothing.
    pub fn start() -> Self {
        Self::serving(None, None)
    }

    /// The same over TLS, with a certificate of its own for 127.0.0.1.
    pub fn start_tls() -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        Self::serving(Some(Arc::new(config)), Some(made.cert.pem()))
    }

    fn serving(tls: Option<Arc<ServerConfig>>, certificate: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            files: Mutex::default(),
            acts: Mutex::default(),
            auth: Mutex::new(Auth::None),
            seen: Mutex::default(),
            tls,
            ended: false.into(),
        });
        let server = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if server.ended.load(Ordering::Relaxed) {
                    return;
                }
                let (server, stream) = (server.clone(), stream.unwrap());
                std::thread::spawn(move || accept(stream, &server, address));
            }
        });
        Self { address, shared, certificate }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// What its image is called there.
    pub fn reference(&self, tag: &str) -> String {
        format!("{}/{NAME}:{tag}", self.address)
    }

    /// Hand out `bytes` at `path`, beneath that of the repository.
    pub fn put(&self, path: &str, media_type: &str, bytes: impl Into<Vec<u8>>) {
        let path = format!("/v2/{NAME}/{path}");
        self.shared.files.lock().unwrap().insert(path, (media_type.to_owned(), bytes.into()));
    }

    /// Hand out an image.
    pub fn put_image(&self, image: &Image, tag: &str) {
        for (digest, bytes) in &image.blobs {
            self.put(&format!("blobs/{digest}"), "application/octet-stream", bytes.clone());
        }
        let text = image.text();
        self.put(&format!("manifests/{}", digest(&text)), MANIFEST, text.clone());
        self.put(&format!("manifests/{tag}"), MANIFEST, text);
    }

    /// Do these things with the next requests whose paths contain `part`, one with each.
    pub fn next(&self, part: &str, acts: &[Act]) {
        self.shared.acts.lock().unwrap().push((part.to_owned(), acts.iter().cloned().collect(), false));
    }

    /// Do this with all requests whose paths contain `part`.
    pub fn always(&self, part: &str, act: Act) {
        self.shared.acts.lock().unwrap().push((part.to_owned(), [act].into(), true));
    }

    /// Do what is right again.
    pub fn behave(&self) {
        self.shared.acts.lock().unwrap().clear();
    }

    /// Let in nobody else from now on.
    pub fn guard(&self, auth: Auth) {
        *self.shared.auth.lock().unwrap() = auth;
    }

    /// The requests so far whose paths contain `part`.
    pub fn seen(&self, part: &str) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().iter().filter(|seen| seen.path.contains(part)).cloned().collect()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn accept(mut stream: TcpStream, shared: &Shared, address: SocketAddr) {
    if let Some(config) = &shared.tls {
        let Ok(connection) = ServerConnection::new(config.clone()) else { return };
        serve(StreamOwned::new(connection, stream), shared, address);
        return;
    }
    let mut first = [0];
    // A greeting of TLS, as a real server answers it.
    if stream.peek(&mut first).is_ok_and(|count| count == 1) && first[0] == 0x16 {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    }
    serve(stream, shared, address);
}

fn serve(stream: impl Read + Write, shared: &Shared, address: SocketAddr) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    if reader.read_line(&mut line).is_err() {
        return;
    }
    let Some(target) = line.split(' ').nth(1).map(str::to_owned) else { return };
    let mut fields = Vec::new();
    loop {
        let mut line = String::new();
        match reader.read_line(&mut line) {
            Ok(count) if count > 2 => {}
            _ => break,
        }
        let Some((name, value)) = line.trim_end().split_once(": ") else { continue };
        fields.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    // A proxy gets the whole address.
    let path = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |start| &rest[start..]).to_owned(),
        None => target,
    };
    let seen = Seen { path, fields };
    shared.seen.lock().unwrap().push(seen.clone());
    let stream = reader.get_mut();
    let _ = answer(stream, shared, address, &seen);
    let _ = stream.flush();
}

fn answer(stream: &mut impl Write, shared: &Shared, address: SocketAddr, seen: &Seen) -> std::io::Result<()> {
    let mut status = |code: u16, fields: &str, body: &str| {
        let head = format!("HTTP/1.1 {code} So\r\n{fields}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())
    };
    let authorization = seen.field("authorization");
    // base64 of user:pass
    let is_user = authorization == Some("Basic dXNlcjpwYXNz");
    if seen.path.starts_with("/token?") {
        return if is_user { status(200, "", &format!(r#"{{"token":"{TOKEN}"}}"#)) } else { status(401, "", "") };
    }
    let auth = *shared.auth.lock().unwrap();
    let bearer = |realm: &str| format!("WWW-Authenticate: Bearer realm=\"{realm}\",service=\"test\"\r\n");
    match auth {
        Auth::Basic if !is_user => return status(401, "WWW-Authenticate: Basic realm=\"test\"\r\n", ""),
        Auth::Token if authorization != Some(&*format!("Bearer {TOKEN}")) => {
            return status(401, &bearer(&format!("http://{address}/token")), "");
        }
        Auth::TokenInTheOpen => return status(401, &bearer("http://auth.example.org/token"), ""),
        _ => {}
    }
    let act = {
        let mut acts = shared.acts.lock().unwrap();
        let found = acts.iter_mut().find(|(part, acts, _)| seen.path.contains(part.as_str()) && !acts.is_empty());
        found.and_then(|(_, acts, always)| if *always { acts.front().cloned() } else { acts.pop_front() })
    };
    if let Some(Act::Status(code, fields, body)) = act {
        return status(code, fields, body);
    }
    if let Some(Act::Redirect(target)) = act {
        return status(307, &format!("Location: {target}\r\n"), "");
    }
    let Some((media_type, mut bytes)) = shared.files.lock().unwrap().get(&seen.path).cloned() else {
        return status(404, "", r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"there is no such thing"}]}"#);
    };
    if matches!(act, Some(Act::Wrong)) {
        bytes[0] ^= 1;
    }
    if matches!(act, Some(Act::Long)) {
        bytes.push(0);
    }
    if let Some(Act::Short(count)) = act {
        bytes.truncate(count);
    }
    let mut head = "200 OK".to_owned();
    let start: Option<usize> =
        seen.field("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    if let Some(start) = start.filter(|_| !matches!(act, Some(Act::Whole))) {
        if start >= bytes.len() {
            return status(416, "", "");
        }
        head = format!("206 Partial Content\r\nContent-Range: bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
        bytes.drain(..start);
    }
    let head = format!(
        "HTTP/1.1 {head}\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        bytes.len()
    );
    stream.write_all(head.as_bytes())?;
    let count = match act {
        Some(Act::Cut(count) | Act::Stall(count)) => count.min(bytes.len()),
        _ => bytes.len(),
    };
    stream.write_all(&bytes[..count])?;
    stream.flush()?;
    while matches!(act, Some(Act::Stall(_))) && !shared.ended.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
