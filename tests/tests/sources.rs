//! Images from the real servers: Debian's docker-registry with a password, podman without root, docker; and from the
//! archives that skopeo writes. Whichever way it went, it is the same image.

use particle_vm_tests::image::{Image, bootable, digest, layer, noise};
use particle_vm_tests::{Outcome, Place, Running, leftovers, measured, not_run};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(120);

/// Files of any user, so that a store of podman's keeps them. What has no os-release is no system, and `inspect` ends with 1.
fn image(seed: u64) -> Image {
    Image::of("amd64", &[layer("etc/os-release", b"ID=debian\n"), layer("usr/noise", &noise(300_000, seed))])
}

/// Write the image as a layout, and give back its reference.
fn layout(place: &Place, image: &Image) -> String {
    let folder = place.path().join("layout");
    image.write_layout(&folder, "one");
    format!("oci:{}:one", folder.display())
}

fn inspect(place: &Place, reference: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Outcome {
    let mut command = place.command(&[&["inspect", "--json", reference], arguments].concat());
    command.envs(variables.iter().copied());
    let outcome = Running::start(command).finish(DEADLINE);
    leftovers::no_processes(place);
    assert_eq!(leftovers::names(&place.cache().join("particle-vm/work")), Vec::<String>::new());
    outcome
}

/// Assert that what was printed is about `image`.
fn is(outcome: &Outcome, image: &Image) {
    let told: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(told["config_digest"], image.config());
    let ids: Vec<_> =
        told["layers"].as_array().unwrap().iter().map(|layer| layer["diff_id"].as_str().unwrap()).collect();
    assert_eq!(ids, image.diff_ids);
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// `skopeo copy`, which trusts everything and leaves nothing in anybody's home.
fn copy(place: &Place, from: &str, to: &str, arguments: &[&str]) {
    let mut command = Command::new("skopeo");
    command.args(["--insecure-policy", "--tmpdir"]).arg(place.path()).args(["copy", "--quiet"]).args(arguments);
    run(command.args([from, to]).env("HOME", place.path().join("home")));
}

#[test]
fn archives_hold_the_same_image() {
    let (place, image) = (Place::with_empty_cache(), image(21));
    let from = layout(&place, &image);
    is(&inspect(&place, &from, &[], &[]).exits(0), &image);
    let oci = place.path().join("oci.tar");
    copy(&place, &from, &format!("oci-archive:{}:one", oci.display()), &[]);
    let docker = place.path().join("docker.tar");
    copy(&place, &from, &format!("docker-archive:{}:example.org/one:1", docker.display()), &[]);
    for reference in [
        format!("oci-archive:{}", oci.display()),
        format!("oci-archive:{}:one", oci.display()),
        format!("docker-archive:{}", docker.display()),
        format!("docker-archive:{}:example.org/one:1", docker.display()),
        "oci:layout".into(),
    ] {
        is(&inspect(&place, &reference, &[], &[]).exits(0), &image);
    }
    // What is called by the name of the other is known.
    for (kind, path, text) in
        [("docker-archive", &oci, "name it with oci-archive:"), ("oci-archive", &docker, "docker-archive:")]
    {
        let _ = inspect(&place, &format!("{kind}:{}", path.display()), &[], &[]).exits(2).says(&[text]);
    }
    let text = "has no single image of the name two; it has one";
    let _ = inspect(&place, &format!("oci-archive:{}:two", oci.display()), &[], &[]).exits(2).says(&[text]);
    let _ = inspect(&place, "oci:nowhere", &[], &[]).exits(2).says(&["nowhere is no OCI image layout"]);
    // Cut off, and compressed.
    let whole = std::fs::read(&docker).unwrap();
    std::fs::write(&docker, &whole[..whole.len() / 2]).unwrap();
    let _ = inspect(&place, "docker-archive:docker.tar", &[], &[]).exits(2).says(&["it ends in the middle"]);
    std::fs::write(&docker, [b"\x1f\x8b\x08".as_slice(), &[0; 1024]].concat()).unwrap();
    let _ = inspect(&place, "docker-archive:docker.tar", &[], &[]).exits(2).says(&["gunzip"]);
}

/// What `docker save` has long written: a layer of its own folder, a link where one is the same, and no name leads out.
#[test]
fn an_archive_of_dockers_leads_nowhere() {
    let place = Place::with_empty_cache();
    let layers = [layer("etc/os-release", b"a"), layer("etc/os-release", b"a")];
    let image = Image::of("amd64", &layers);
    let config = &image.blobs[&image.config()];
    let write = |name: &str, second: &str, config: &[u8]| {
        let path = place.path().join(name);
        let mut builder = tar::Builder::new(std::fs::File::create(&path).unwrap());
        let mut file = |name: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, name, bytes).unwrap();
        };
        file("first/layer.tar", &layers[0]);
        file("config.json", config);
        let items =
            json!([{ "Config": "config.json", "RepoTags": null, "Layers": ["first/layer.tar", "second/layer.tar"] }]);
        file("manifest.json", items.to_string().as_bytes());
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "second/layer.tar", second).unwrap();
        builder.finish().unwrap();
        format!("docker-archive:{name}")
    };
    is(&inspect(&place, &write("good.tar", "../first/layer.tar", config), &[], &[]).exits(0), &image);
    for target in ["/etc/passwd", "../../../../etc/passwd", "layer.tar"] {
        let reference = write("bad.tar", target, config);
        let _ =
            inspect(&place, &reference, &[], &[]).exits(2).says(&["layer 2 is missing: it has no second/layer.tar"]);
    }
    let other = String::from_utf8(config.clone()).unwrap().replace(&image.diff_ids[0], &digest(b"other"));
    let reference = write("other.tar", "../first/layer.tar", other.as_bytes());
    let _ = inspect(&place, &reference, &[], &[]).exits(4).says(&["layer 1 has the digest"]);
}

/// A program that runs as long as its handle.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn registry(place: &Place) -> (Server, u16) {
    let passwords = place.path().join("passwords");
    run(Command::new("htpasswd").args(["-Bbc", passwords.to_str().unwrap(), "user", "pass"]));
    // Another server may take the port before this one does.
    let mut said = String::new();
    for _ in 0..5 {
        match serve(place, &passwords, free_port()) {
            Ok(served) => return served,
            Err(stderr) => said = stderr,
        }
    }
    panic!("docker-registry does not start:\n{said}");
}

/// docker's registry at `port`, unless it ends, for instance because something else listens there; then what it says.
fn serve(place: &Place, passwords: &Path, port: u16) -> Result<(Server, u16), String> {
    let config = json!({
        "version": "0.1",
        "log": { "accesslog": { "disabled": true }, "level": "error" },
        "storage": { "filesystem": { "rootdirectory": place.path().join("registry") } },
        "http": { "addr": format!("127.0.0.1:{port}") },
        "auth": { "htpasswd": { "realm": place.marker(), "path": passwords } },
    });
    // What is JSON is YAML.
    let config = place.write("registry.yml", config.to_string());
    let mut command = Command::new("docker-registry");
    let log = place.path().join("registry.log");
    command.arg("serve").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
    let mut server = Server(command.spawn().unwrap());
    let end = Instant::now() + Duration::from_secs(30);
    while !is_ours(place, port) {
        if server.0.try_wait().unwrap().is_some() {
            return Err(std::fs::read_to_string(&log).unwrap());
        }
        assert!(Instant::now() < end, "docker-registry does not listen");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok((server, port))
}

/// Whether the registry of this place answers at `port`: it asks for credentials in the place's name.
fn is_ours(place: &Place, port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"GET /v2/ HTTP/1.0\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map(|_| String::from_utf8_lossy(&answer).into_owned())
    };
    ask().is_ok_and(|answer| answer.contains(&format!("realm=\"{}\"", place.marker())))
}

#[test]
fn dockers_registry_hands_out_the_same_image() {
    let (place, image) = (Place::with_empty_cache(), image(22));
    let (server, port) = registry(&place);
    let from = layout(&place, &image);
    let creds = ["--dest-tls-verify=false", "--dest-creds=user:pass"];
    let reference = format!("127.0.0.1:{port}/team/one");
    copy(&place, &from, &format!("docker://{reference}:oci"), &creds);
    copy(&place, &from, &format!("docker://{reference}:docker"), &[&creds[..], &["--format", "v2s2"]].concat());
    let _ = inspect(&place, &format!("{reference}:oci"), &[], &[]).exits(4).says(&["(401): it wants credentials"]);
    // As `podman login` leaves it.
    let folder = place.path().join("home/.config/containers");
    std::fs::create_dir_all(&folder).unwrap();
    let auths = json!({ "auths": { format!("127.0.0.1:{port}"): { "auth": "dXNlcjpwYXNz" } } });
    std::fs::write(folder.join("auth.json"), auths.to_string()).unwrap();
    for tag in ["oci", "docker"] {
        is(&inspect(&place, &format!("docker://{reference}:{tag}"), &[], &[]).exits(0), &image);
    }
    let _ = inspect(&place, &format!("{reference}:none"), &[], &[]).exits(4).says(&["(404): manifest unknown"]);
    drop(server);
}

/// podman with a store in the place, as the user that runs the tests.
fn podman(place: &Place, arguments: &[&str]) -> Command {
    let mut command = Command::new("podman");
    command.args(arguments).env("HOME", place.path().join("home")).env_remove("XDG_RUNTIME_DIR");
    command.env("TMPDIR", place.path()).stdin(Stdio::null());
    command
}

/// podman's store in a place, removed when dropped: files in it may belong to other users than ours.
struct Store<'a>(&'a Place);

impl Store<'_> {
    fn path(&self) -> PathBuf {
        self.0.path().join("home/.local/share/containers/storage")
    }
}

impl Drop for Store<'_> {
    fn drop(&mut self) {
        let _ = podman(self.0, &["unshare", "rm", "-rf"]).arg(self.path()).status();
        // What keeps its user namespace ends with that.
        let _ = podman(self.0, &["system", "migrate"]).output();
    }
}

/// Whether this user can make user namespaces, as podman does for one who is not root: not in a chroot
/// (user_namespaces(7)), nor where an administrator forbids it.
fn has_user_namespaces() -> bool {
    Command::new("unshare").args(["--user", "--map-root-user", "true"]).status().unwrap().success()
}

#[test]
fn podman_hands_out_the_same_image() {
    let (place, image) = (Place::with_empty_cache(), image(23));
    let archive = place.path().join("oci.tar");
    copy(&place, &layout(&place, &image), &format!("oci-archive:{}:one", archive.display()), &[]);
    if !has_user_namespaces() {
        not_run("an image from podman", "this user can make no user namespaces");
        // There is nothing then that it could hand out, and its reason reaches the user.
        let texts = ["podman does not hand it out", "cannot clone: Operation not permitted"];
        let _ = inspect(&place, "containers-storage:localhost/one", &[], &[]).exits(3).says(&texts);
        return;
    }
    let store = Store(&place);
    let load = ["--storage-driver=vfs", "load", "--quiet", "--input", archive.to_str().unwrap()];
    let loaded = podman(&place, &load).output().unwrap();
    assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
    let reference = format!("containers-storage:[vfs@{}]localhost/one:latest", store.path().display());
    is(&inspect(&place, &reference, &[], &[]).exits(0), &image);
    is(&inspect(&place, "containers-storage:localhost/one", &[], &[("STORAGE_DRIVER", "vfs")]).exits(0), &image);
    let nothing = "containers-storage:localhost/nothing";
    let texts = ["podman does not hand it out", "image not known", "`podman images`"];
    let _ = inspect(&place, nothing, &[], &[("STORAGE_DRIVER", "vfs")]).exits(3).says(&texts);
}

#[test]
fn without_podman_it_says_so() {
    let place = Place::with_empty_cache();
    let empty = place.path().join("home");
    let path = [("PATH", empty.to_str().unwrap())];
    let texts = ["cannot run podman", "install podman", "--format oci-archive"];
    let _ = inspect(&place, "containers-storage:one", &[], &path).exits(3).says(&texts);
}

/// docker's daemon, for those who have none: it hands out one archive, by the name `one:latest`. What is wrong with
/// `endless:latest` it tells for as long as somebody listens.
fn daemon(place: &Place, archive: Vec<u8>) -> PathBuf {
    let socket = place.path().join("d.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut request = String::new();
            let _ = reader.read_line(&mut request);
            while reader.by_ref().lines().next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            if request.starts_with("GET /images/get?names=endless%3Alatest ") {
                let mut more = stream.write_all(b"HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\n\r\n");
                while more.is_ok() {
                    more = stream.write_all(&[b' '; 1 << 16]);
                }
                continue;
            }
            let (status, body) = if request.starts_with("GET /images/get?names=one%3Alatest ") {
                ("200 OK", archive.clone())
            } else {
                ("404 Not Found", br#"{"message":"reference does not exist"}"#.to_vec())
            };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    socket
}

#[test]
fn dockers_socket_hands_out_the_same_image() {
    let (place, image) = (Place::with_empty_cache(), image(24));
    let archive = place.path().join("docker.tar");
    copy(&place, &layout(&place, &image), &format!("docker-archive:{}:one:latest", archive.display()), &[]);
    let socket = daemon(&place, std::fs::read(&archive).unwrap());
    let host = format!("unix://{}", socket.display());
    let variables = [("DOCKER_HOST", &*host)];
    is(&inspect(&place, "docker-daemon:one", &[], &variables).exits(0), &image);
    let texts = ["docker does not hand it out (404): reference does not exist", "`docker images`"];
    let _ = inspect(&place, "docker-daemon:two", &[], &variables).exits(4).says(&texts);
    let _ =
        inspect(&place, "docker-daemon:endless", &[], &variables).exits(4).says(&["docker does not hand it out (500)"]);
    let nowhere = [("DOCKER_HOST", "unix:///nowhere/docker.sock")];
    let texts = ["docker does not answer at /nowhere/docker.sock", "`docker save`"];
    let _ = inspect(&place, "docker-daemon:one", &[], &nowhere).exits(3).says(&texts);
    let remote = [("DOCKER_HOST", "tcp://192.0.2.1:2375")];
    let _ = inspect(&place, "docker-daemon:one", &[], &remote).exits(3).says(&["only unix:// can be used"]);
}

/// With a real daemon, which `tools/check` starts where it is root.
#[test]
fn docker_hands_out_the_same_image() {
    let Some(socket) = std::env::var_os("PARTICLE_VM_TEST_DOCKER") else {
        not_run("an image from docker", "PARTICLE_VM_TEST_DOCKER names no socket of docker's");
        return;
    };
    let (place, image) = (Place::with_empty_cache(), image(25));
    let archive = place.path().join("docker.tar");
    copy(&place, &layout(&place, &image), &format!("docker-archive:{}:example.org/one:1", archive.display()), &[]);
    load(Path::new(&socket), &std::fs::read(&archive).unwrap());
    let host = format!("unix://{}", Path::new(&socket).display());
    is(&inspect(&place, "docker-daemon:example.org/one:1", &[], &[("DOCKER_HOST", &host)]).exits(0), &image);
    let texts = ["docker does not hand it out (404)", "`docker images`"];
    let _ = inspect(&place, "docker-daemon:example.org/two:1", &[], &[("DOCKER_HOST", &host)]).exits(4).says(&texts);
}

/// `docker load`, without docker's client (`POST /images/load` of the Engine API).
fn load(socket: &Path, archive: &[u8]) {
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    let head = format!(
        "POST /images/load?quiet=1 HTTP/1.1\r\nHost: docker\r\nContent-Type: application/x-tar\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        archive.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(archive).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("Loaded image"), "{answer}");
}

/// Make a disk of an image, and give back what `manifest.json` says of the commit on it.
pub(crate) fn deploy(place: &Place, reference: &str, variables: &[(&str, &str)]) -> Value {
    let lines =
        "engine: native-ostree\nstages: [{ type: bootloader, options: { firmware: [bios] } }]\ndisk: { size: 1GiB }\n";
    let recipe =
        place.write("way.yml", format!("name: way\nbase-image: {reference}\n{lines}output: {{ formats: [raw] }}\n"));
    let mut command = place.build_command(&recipe, &["--replace"]);
    command.envs(variables.iter().copied());
    let built = Running::start(command).finish(Duration::from_secs(600)).exits(0);
    measured(reference, "seconds to deploy", built.took.as_secs_f64());
    let manifest = place.manifest();
    manifest["deployed"].clone()
}

/// The tree of the deployment is the same, to the byte. The commit has the manifest in it, as bootc wants it, and is the same
/// where the manifest is: podman and docker make a new one, of layers that are not compressed.
#[test]
fn every_way_leads_to_the_same_deployment() {
    let place = Place::with_shared_appliance();
    let image = Image::labelled("amd64", &bootable(), &json!({ "containers.bootc": "1" }));
    let from = layout(&place, &image);
    let (oci, docker) = (place.path().join("oci.tar"), place.path().join("docker.tar"));
    copy(&place, &from, &format!("oci-archive:{}:one", oci.display()), &[]);
    copy(&place, &from, &format!("docker-archive:{}:example.org/way:1", docker.display()), &[]);
    let archived = deploy(&place, &format!("oci-archive:{}", oci.display()), &[]);
    assert_eq!(archived["content"].as_str().map(str::len), Some(64), "{archived}");

    let (server, port) = registry(&place);
    let reference = format!("docker://127.0.0.1:{port}/way:1");
    copy(&place, &from, &reference, &["--dest-tls-verify=false", "--dest-creds=user:pass"]);
    let auths = json!({ "auths": { format!("127.0.0.1:{port}"): { "auth": "dXNlcjpwYXNz" } } });
    let auths = place.write("auth.json", auths.to_string());
    let variables = [("REGISTRY_AUTH_FILE", auths.to_str().unwrap())];
    assert_eq!(deploy(&place, &reference, &variables), archived);
    drop(server);

    let store = has_user_namespaces().then(|| Store(&place));
    let mut ways = vec![(format!("docker-archive:{}", docker.display()), Vec::new())];
    if store.is_some() {
        let load = ["--storage-driver=vfs", "load", "--quiet", "--input", oci.to_str().unwrap()];
        run(&mut podman(&place, &load));
        ways.push(("containers-storage:localhost/one".into(), vec![("STORAGE_DRIVER", "vfs".to_owned())]));
    } else {
        not_run("a deployment from podman", "this user can make no user namespaces");
    }
    if let Some(socket) = std::env::var_os("PARTICLE_VM_TEST_DOCKER") {
        load(Path::new(&socket), &std::fs::read(&docker).unwrap());
        let host = format!("unix://{}", Path::new(&socket).display());
        ways.push(("docker-daemon:example.org/way:1".into(), vec![("DOCKER_HOST", host)]));
    } else {
        not_run("a deployment from docker", "PARTICLE_VM_TEST_DOCKER names no socket of docker's");
    }
    for (reference, variables) in &ways {
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(deploy(&place, reference, &variables)["content"], archived["content"], "{reference}");
    }
    drop(store);
    leftovers::no_processes(&place);
    assert_eq!(leftovers::names(&place.work()), Vec::<String>::new());
}
