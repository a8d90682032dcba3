//! What may go wrong between an image in a registry and this machine: each fault with its message, its exit code, and
//! what is left behind, which is nothing but what has arrived whole.

use particle_vm_tests::image::{self, CONFIG, INDEX, Image, LAYER, MANIFEST};
use particle_vm_tests::registry::{Act, Auth, NAME};
use particle_vm_tests::{Outcome, Place, Registry, Running, leftovers};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(60);

/// A registry that has the sample image `seed` as `1`.
fn registry(seed: u64) -> (Registry, Image) {
    let (registry, image) = (Registry::start(), Image::sample(seed));
    registry.put_image(&image, "1");
    (registry, image)
}

fn inspect_with(place: &Place, reference: &str, arguments: &[&str], variables: &[(&str, &Path)]) -> Outcome {
    let mut command = place.command(&[&["-vv", "inspect", "--json", reference], arguments].concat());
    command.envs(variables.iter().copied());
    let outcome = Running::start(command).finish(DEADLINE);
    leftovers::no_processes(place);
    for folder in ["work", "store/tmp"] {
        let left = leftovers::names(&place.cache().join("particle-vm").join(folder));
        assert_eq!(left, Vec::<String>::new(), "{folder}");
    }
    outcome
}

fn inspect(place: &Place, reference: &str) -> Outcome {
    inspect_with(place, reference, &[], &[])
}

fn summary(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout).unwrap()
}

#[test]
fn an_image_is_fetched_once() {
    let ((registry, image), place) = (registry(1), Place::with_empty_cache());
    let told = summary(&inspect(&place, &registry.reference("1")).exits(0).says(&["fetched"]));
    assert_eq!(told["digest"], image::digest(&image.text()));
    assert_eq!(told["config_digest"], image.config());
    assert_eq!(told["origin"], format!("ostree-unverified-registry:{}", registry.reference("1")));
    assert_eq!(told["config"]["labels"], json!({ "org.example.purpose": "test" }));
    let ids: Vec<_> =
        told["layers"].as_array().unwrap().iter().map(|layer| layer["diff_id"].as_str().unwrap()).collect();
    assert_eq!(ids, image.diff_ids);
    assert_eq!(registry.seen("blobs/").len(), 3);
    let _ = inspect(&place, &registry.reference("1")).exits(0).says(&["from the store"]);
    assert_eq!(registry.seen("blobs/").len(), 3, "it was fetched again");
    // By its digest it needs no registry at all.
    let pinned = format!("{}/{NAME}@{}", registry.host(), image::digest(&image.text()));
    drop(registry);
    let _ = inspect(&place, &pinned).exits(0);
}

#[test]
fn an_index_leads_to_the_architecture() {
    let (registry, place) = (Registry::start(), Place::with_empty_cache());
    let images = [("arm64", 2), ("amd64", 3)].map(|(architecture, seed)| {
        let image =
            Image::of(architecture, &[image::layer("etc/os-release", format!("ID=debian\n# {seed}\n").as_bytes())]);
        registry.put_image(&image, architecture);
        let text = image.text();
        let platform = json!({ "os": "linux", "architecture": architecture });
        json!({ "mediaType": MANIFEST, "digest": image::digest(&text), "size": text.len(), "platform": platform })
    });
    let index = |entries: &[Value]| json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries }).to_string();
    registry.put("manifests/1", INDEX, index(&images));
    let told = summary(&inspect(&place, &registry.reference("1")).exits(0));
    assert_eq!(told["digest"], images[1]["digest"]);
    registry.put("manifests/2", INDEX, index(&images[..1]));
    let _ = inspect(&place, &registry.reference("2"))
        .exits(4)
        .says(&["not for linux/amd64; it is for linux/arm64", "built for this architecture"]);
    // One that says nothing of the kind is found out by its configuration.
    let _ =
        inspect(&place, &registry.reference("arm64")).exits(4).says(&["not for linux/amd64; it is for linux/arm64"]);
}

#[test]
fn refusals_are_told_apart() {
    let (registry, place) = (registry(4).0, Place::with_empty_cache());
    let denied = r#"{"errors":[{"code":"DENIED","message":"not for you\u001b[31m"}]}"#;
    for (status, body, texts) in [
        (401, "", ["(401): it wants credentials, and there are none", "podman login 127.0.0.1:"]),
        (403, denied, ["(403): not for you", "log in as a user that may pull it"]),
        (404, "", ["(404)", "see that the name and the tag are right"]),
        (418, "", ["answers 418", "see that it is the address of a registry"]),
    ] {
        registry.behave();
        registry.always("manifests/", Act::Status(status, "", body));
        let outcome = inspect(&place, &registry.reference("1")).exits(4).says(&texts);
        assert!(!outcome.stderr.contains("\x1b[31m"), "{}", outcome.stderr);
    }
    registry.behave();
    let _ = inspect(&place, &registry.reference("2")).exits(4).says(&["(404): there is no such thing"]);
    let port = registry.host();
    drop(registry);
    let _ = inspect(&place, &format!("{port}/a")).exits(4).says(&["cannot connect to 127.0.0.1", "refused"]);
}

#[test]
fn a_busy_registry_is_asked_again() {
    let (registry, place) = (registry(5).0, Place::with_empty_cache());
    registry.next("manifests/", &[Act::Status(429, "Retry-After: 1\r\n", ""), Act::Status(503, "", "")]);
    registry.next("blobs/", &[Act::Status(500, "", "")]);
    let outcome = inspect(&place, &registry.reference("1")).exits(0).says(&["it answers 429; tried again in 1 s"]);
    assert!(outcome.took >= Duration::from_secs(1), "{:?}", outcome.took);
    assert_eq!(registry.seen("manifests/").len(), 3);

    for (status, advice) in [(500, "has a problem of its own"), (429, "wants fewer requests")] {
        registry.behave();
        let before = registry.seen("manifests/").len();
        registry.always("manifests/", Act::Status(status, "", ""));
        let texts = [&*format!("answers {status}"), advice];
        let _ = inspect(&place, &registry.reference("1")).exits(4).says(&texts);
        assert_eq!(registry.seen("manifests/").len() - before, 5);
    }
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_was() {
    let ((registry, image), place) = (registry(6), Place::with_empty_cache());
    registry.next(&image.layer(1), &[Act::Cut(400_000), Act::Cut(300_000)]);
    let _ = inspect(&place, &registry.reference("1")).exits(0).says(&["after 400000 of", "after 700000 of"]);
    let ranges: Vec<_> =
        registry.seen(&image.layer(1)).iter().map(|seen| seen.field("range").unwrap_or("all").to_owned()).collect();
    assert_eq!(ranges, ["all", "bytes=400000-", "bytes=700000-"]);

    let (image, place) = (Image::sample(7), Place::with_empty_cache());
    registry.put_image(&image, "2");
    // A server that knows no ranges sends all of it once more.
    registry.next(&image.layer(1), &[Act::Cut(400_000), Act::Whole]);
    let _ = inspect(&place, &registry.reference("2")).exits(0);
    assert_eq!(registry.seen(&image.layer(1)).len(), 2);
}

#[test]
fn what_has_arrived_whole_is_kept_for_the_next_try() {
    let ((registry, image), place) = (registry(8), Place::with_empty_cache());
    registry.always(&image.layer(1), Act::Cut(0));
    let texts = ["did not deliver layer 2", "tried 5 times", "what has arrived whole is kept"];
    let _ = inspect(&place, &registry.reference("1")).exits(4).says(&texts);
    registry.behave();
    let before = registry.seen(&image.layer(0)).len();
    let _ = inspect(&place, &registry.reference("1")).exits(0);
    assert_eq!(registry.seen(&image.layer(0)).len(), before, "the first layer was fetched again");
}

#[test]
fn a_download_that_is_interrupted_leaves_nothing() {
    let ((registry, image), place) = (registry(20), Place::with_empty_cache());
    registry.always(&image.layer(1), Act::Stall(100_000));
    let mut running = place.start(&["-vv", "inspect", &registry.reference("1")]);
    // The first layer is there, and the second one under way.
    running.wait_for("fetched", DEADLINE);
    while registry.seen(&image.layer(1)).is_empty() {
        std::thread::sleep(Duration::from_millis(20));
    }
    running.signal(nix::sys::signal::Signal::SIGINT);
    let _ = running.finish(DEADLINE).exits(130).says(&["interrupted by SIGINT"]);
    leftovers::no_processes(&place);
    assert_eq!(leftovers::names(&place.cache().join("particle-vm/store/tmp")), Vec::<String>::new());
    registry.behave();
    let _ = inspect(&place, &registry.reference("1")).exits(0);
    assert_eq!(registry.seen(&image.layer(0)).len(), 1, "the first layer was fetched again");
}

#[test]
fn wrong_bytes_are_refused() {
    let ((registry, image), place) = (registry(9), Place::with_empty_cache());
    let layer = image.layer(1);
    let size = image.blobs[&layer].len();
    for (act, texts) in [
        (Act::Wrong, ["layer 2 has the digest", "do not use it"]),
        (Act::Short(5000), ["layer 2 has 5000 bytes, and not", "try again"]),
        (Act::Long, [&*format!("layer 2 has {} bytes, and not {size}", size + 1), "try again"]),
    ] {
        registry.behave();
        registry.always(&layer, act);
        let _ = inspect(&place, &registry.reference("1")).exits(4).says(&texts);
    }
    let place = Place::with_empty_cache();
    registry.behave();
    registry.always(&image.config(), Act::Wrong);
    let _ = inspect(&place, &registry.reference("1")).exits(4).says(&["its configuration has the digest"]);
    registry.behave();
    registry.always("manifests/", Act::Wrong);
    let pinned = format!("{}/{NAME}@{}", registry.host(), image::digest(&image.text()));
    let _ = inspect(&place, &pinned).exits(4).says(&["its manifest has the digest"]);
    registry.behave();
    let _ = inspect(&place, &pinned).exits(0);
}

#[test]
fn what_is_no_image_is_refused() {
    let (registry, place) = (Registry::start(), Place::with_empty_cache());
    let sample = Image::sample(10);
    let refused = |name: &str, media_type: &str, text: &[u8], texts: &[&str]| {
        registry.put_image(&sample, "sample");
        registry.put(&format!("manifests/{name}"), media_type, text);
        let _ = inspect(&place, &registry.reference(name)).exits(4).says(texts);
        assert!(
            registry.seen("blobs/").iter().all(|seen| !seen.path.contains(&sample.layer(0))),
            "a layer was fetched"
        );
    };
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut manifest = sample.manifest.clone();
        change(&mut manifest);
        manifest.to_string().into_bytes()
    };
    let many = changed(&|manifest| manifest["layers"] = vec![manifest["layers"][0].clone(); 10_000].into());
    refused("many", MANIFEST, &many, &["it has 10000 layers, and an image has at most 512"]);
    let layer = changed(&|manifest| manifest["layers"][1]["mediaType"] = "application/vnd.example.disk".into());
    let texts = ["layer 2 has the type application/vnd.example.disk, which is none of a container image", "artifacts"];
    refused("layer", MANIFEST, &layer, &texts);
    let encrypted = changed(&|manifest| manifest["layers"][1]["mediaType"] = format!("{LAYER}+encrypted").into());
    refused("encrypted", MANIFEST, &encrypted, &["layer 2 is encrypted", "decrypt it first"]);
    let chart = changed(&|manifest| manifest["config"]["mediaType"] = "application/vnd.example.chart.v1+json".into());
    refused("chart", MANIFEST, &chart, &["its configuration has the type application/vnd.example.chart.v1+json"]);
    let other = "application/vnd.example.other+json";
    let unknown = changed(&|manifest| manifest["mediaType"] = other.into());
    refused("unknown", other, &unknown, &["what the name leads to has the type application/vnd.example.other+json"]);
    let first = br#"{"schemaVersion":1,"fsLayers":[]}"#;
    refused("first", "application/vnd.docker.distribution.manifest.v1+prettyjws", first, &["schema 1", "v2s2"]);
    let both = changed(&|manifest| manifest["manifests"] = json!([]));
    refused("both", MANIFEST, &both, &["an index and a manifest at once"]);
    refused("text", MANIFEST, b"<html>no</html>", &["its manifest cannot be read"]);
    refused("huge", MANIFEST, &vec![b' '; 5 << 20], &["cannot be read: it has 5.0 MiB, and may have 4.0 MiB"]);
    let heavy = changed(&|manifest| manifest["layers"][1]["size"] = (1_u64 << 50).into());
    refused("heavy", MANIFEST, &heavy, &["the sum of its layers has", "--max-image-size"]);
    let digest = changed(&|manifest| manifest["layers"][1]["digest"] = format!("sha512:{}", "ab".repeat(64)).into());
    refused("digest", MANIFEST, &digest, &["its digest is no SHA-256"]);
    let fewer = Image {
        manifest: serde_json::from_slice(&changed(&|manifest| {
            manifest["layers"].as_array_mut().unwrap().pop();
        }))
        .unwrap(),
        ..sample.clone()
    };
    refused("fewer", MANIFEST, &fewer.text(), &["it names 2 layers, and its manifest 1"]);
    let not_json = Image::of("amd64", &[]);
    let mut not_json = Image { manifest: not_json.manifest, ..not_json };
    let config = image::digest(b"no");
    not_json.manifest["config"] = json!({ "mediaType": CONFIG, "digest": config, "size": 2 });
    registry.put(&format!("blobs/{config}"), "application/octet-stream", "no");
    refused("config", MANIFEST, &not_json.text(), &["its configuration cannot be read"]);
}

#[test]
fn a_certificate_that_nobody_knows_is_refused() {
    let (registry, image, place) = (Registry::start_tls(), Image::sample(11), Place::with_empty_cache());
    registry.put_image(&image, "1");
    let reference = registry.reference("1");
    let texts = ["the certificate of 127.0.0.1:", "is not to be trusted", "SSL_CERT_FILE"];
    let _ = inspect(&place, &reference).exits(4).says(&texts);
    assert_eq!(registry.seen("").len(), 0, "something was sent all the same");
    let certificate = place.write("ca.crt", registry.certificate.as_ref().unwrap());
    let _ = inspect_with(&place, &reference, &[], &[("SSL_CERT_FILE", &certificate)]).exits(0);
    // Where containers-certs.d(5) has it.
    let place = Place::with_empty_cache();
    let folder = place.path().join("home/.config/containers/certs.d").join(registry.host());
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("ca.crt"), registry.certificate.as_ref().unwrap()).unwrap();
    let _ = inspect(&place, &reference).exits(0);
    // Out of TLS nobody is followed.
    let plain = Registry::start();
    plain.put_image(&Image::sample(12), "1");
    registry.put_image(&Image::sample(12), "2");
    let layer = Image::sample(12).layer(1);
    registry.always(&layer, Act::Redirect(format!("http://{}/v2/{NAME}/blobs/{layer}", plain.host())));
    let _ = inspect(&place, &registry.reference("2")).exits(4).says(&["it redirects to plain http"]);
    assert_eq!(plain.seen("").len(), 0);
}

/// A file with `user:pass`, or `user:wrong`, for a registry.
fn authfile(place: &Place, registry: &Registry, auth: &str) -> std::path::PathBuf {
    let host = registry.host();
    place.write("auth.json", json!({ "auths": { host: { "auth": auth } } }).to_string())
}

/// base64 of `user:pass` and of `user:wrong`.
const RIGHT: &str = "dXNlcjpwYXNz";
const WRONG: &str = "dXNlcjp3cm9uZw==";

#[test]
fn a_password_or_a_token_opens() {
    for (auth, seed) in [(Auth::Basic, 13), (Auth::Token, 14)] {
        let ((registry, _), place) = (registry(seed), Place::with_empty_cache());
        registry.guard(auth);
        let reference = registry.reference("1");
        let _ = inspect(&place, &reference).exits(4).says(&["(401): it wants credentials"]);
        let file = authfile(&place, &registry, WRONG);
        let arguments = ["--authfile", file.to_str().unwrap()];
        let outcome = inspect_with(&place, &reference, &arguments, &[]).exits(4);
        let outcome = outcome.says(&["(401): it does not accept the credentials"]);
        assert!(!outcome.stderr.contains("wrong") && !outcome.stderr.contains(WRONG), "{}", outcome.stderr);
        let file = authfile(&place, &registry, RIGHT);
        let _ = inspect_with(&place, &reference, &[], &[("REGISTRY_AUTH_FILE", &file)]).exits(0);
        if auth == Auth::Token {
            let asked = registry.seen("/token?").pop().unwrap();
            assert!(
                asked.path.contains("service=test") && asked.path.contains("scope=repository%3Ateam%2Fimage%3Apull")
            );
        }
    }
    let (registry, place) = (registry(15).0, Place::with_empty_cache());
    registry.guard(Auth::TokenInTheOpen);
    let file = authfile(&place, &registry, RIGHT);
    let _ = inspect_with(&place, &registry.reference("1"), &["--authfile", file.to_str().unwrap()], &[])
        .exits(4)
        .says(&["its token server does not speak https"]);
    let missing = ["--authfile", "nothing.json"];
    let _ = inspect_with(&place, &registry.reference("1"), &missing, &[]).exits(2).says(&["cannot read nothing.json"]);
}

#[test]
fn a_credential_helper_is_asked() {
    let (registry, place) = (registry(16).0, Place::with_empty_cache());
    registry.guard(Auth::Basic);
    let reference = registry.reference("1");
    let docker = place.path().join("home/.docker");
    std::fs::create_dir(&docker).unwrap();
    let config = json!({ "credHelpers": { registry.host(): "test" } });
    std::fs::write(docker.join("config.json"), config.to_string()).unwrap();
    let texts = ["cannot run docker-credential-test", "install the helper"];
    let _ = inspect(&place, &reference).exits(3).says(&texts);
    let bin = place.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let helper = |script: &str| {
        let path = bin.join("docker-credential-test");
        std::fs::write(&path, format!("#!/bin/sh\nread -r server\n{script}\n")).unwrap();
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    };
    let path = std::ffi::OsString::from(format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()));
    let ask = || inspect_with(&place, &reference, &[], &[("PATH", Path::new(&path))]);
    helper("echo the keyring is locked >&2; exit 1");
    let _ = ask().exits(3).says(&["docker-credential-test failed", "the keyring is locked"]);
    helper("echo credentials not found in native keychain; exit 1");
    let _ = ask().exits(4).says(&["(401)"]);
    helper(&format!(r#"[ "$1 $server" = "get {}" ] && echo '{{"Username":"user","Secret":"pass"}}'"#, registry.host()));
    let _ = ask().exits(0);
}

#[test]
fn a_redirect_is_followed_without_the_password() {
    let ((registry, image), place) = (registry(17), Place::with_empty_cache());
    registry.guard(Auth::Basic);
    let elsewhere = Registry::start();
    elsewhere.put_image(&image, "1");
    for digest in [image.layer(0), image.layer(1)] {
        registry.always(&digest, Act::Redirect(format!("http://{}/v2/{NAME}/blobs/{digest}", elsewhere.host())));
    }
    // Also where the other server asks for one.
    elsewhere.next(&image.layer(1), &[Act::Cut(1000)]);
    let file = authfile(&place, &registry, RIGHT);
    let arguments = ["--authfile", file.to_str().unwrap()];
    let _ = inspect_with(&place, &registry.reference("1"), &arguments, &[]).exits(0);
    let seen = elsewhere.seen("blobs/");
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|seen| seen.field("authorization").is_none()), "{seen:?}");
    assert!(registry.seen("manifests/").iter().any(|seen| seen.field("authorization").is_some()));

    let (image, place) = (Image::sample(18), Place::with_empty_cache());
    registry.put_image(&image, "2");
    elsewhere.guard(Auth::Basic);
    registry.always(&image.layer(0), Act::Redirect(format!("http://{}/v2/{NAME}/blobs/x", elsewhere.host())));
    let file = authfile(&place, &registry, RIGHT);
    let arguments = ["--authfile", file.to_str().unwrap()];
    let _ = inspect_with(&place, &registry.reference("2"), &arguments, &[]).exits(4).says(&["(401)"]);
    assert!(elsewhere.seen("").iter().all(|seen| seen.field("authorization").is_none()));
}

#[test]
fn the_proxy_of_the_host_is_the_way() {
    let (registry, place) = (registry(19).0, Place::with_empty_cache());
    let proxy = format!("http://{}", registry.host());
    let reference = format!("registry.example.org/{NAME}:1");
    let variables = [("http_proxy", Path::new(&proxy)), ("no_proxy", Path::new("127.0.0.1"))];
    let _ = inspect_with(&place, &reference, &["--plain-http"], &variables).exits(0);
    assert!(registry.seen("blobs/").iter().all(|seen| seen.field("host") == Some("registry.example.org")));
    // Without the word, only TLS is spoken to it.
    let before = registry.seen("").len();
    let variables = [("https_proxy", Path::new(&proxy)), ("http_proxy", Path::new(&proxy))];
    let outcome = inspect_with(&Place::with_empty_cache(), &reference, &[], &variables).exits(4);
    let _ = outcome.says(&["cannot connect to registry.example.org (through the proxy 127.0.0.1:", "--plain-http"]);
    assert!(registry.seen("").iter().skip(before).all(|seen| !seen.path.contains("manifests")));
}
