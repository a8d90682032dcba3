//! What can go wrong with a mirror: the message, exit code 4, and nothing left behind.

use particle_vm_tests::{Fault, Mirror, Place, Running, leftovers, measured, mirror};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(300);

/// `host:port` of a mirror.
fn host(mirror: &Mirror) -> String {
    mirror.url().split('/').nth(2).unwrap().to_owned()
}

/// A build whose mirror has `fault` fails with exit code 4 and says each of `texts`.
fn fails(fault: Fault, texts: &[&str]) {
    let place = Place::with_shared_appliance();
    let mirror = Mirror::start(fault);
    place.write("tiny.gpg", mirror::keyring());
    let recipe = place.write("tiny.yml", mirror.recipe(""));
    let outcome = place.start_build(&recipe, &[]).finish(DEADLINE).exits(4).says(texts);
    measured(&format!("{fault:?}"), "seconds to the failure", outcome.took.as_secs_f64());
    leftovers::no_processes(&place);
    leftovers::no_files(&place, &[]);
    leftovers::logs(&place, &["tiny.log"]);
}

#[test]
fn a_package_is_not_found() {
    fails(Fault::MissingPackage, &["404", "tiny_1.0_amd64.deb"]);
}

#[test]
fn a_package_stalls() {
    fails(Fault::StalledPackage, &["tiny_1.0_amd64.deb", "stall"]);
}

#[test]
fn a_package_is_truncated() {
    fails(Fault::TruncatedPackage, &["tiny_1.0_amd64.deb", "the connection broke"]);
}

#[test]
fn a_package_has_the_wrong_hash() {
    fails(Fault::WrongPackage, &["Hash Sum mismatch", "tiny_1.0_amd64.deb"]);
}

#[test]
fn an_index_has_the_wrong_signature() {
    fails(Fault::WrongSignature, &["signature"]);
}

#[test]
fn an_index_is_that_of_another_suite() {
    let place = Place::new();
    let mirror = Mirror::start(Fault::None);
    place.write("tiny.gpg", mirror::keyring());
    let recipe = place.write("tiny.yml", mirror.recipe("").replace("suite: tiny", "suite: other"));
    let _ = place.start_build(&recipe, &[]).finish(DEADLINE).exits(4).says(&["another suite", "`other`"]);
    leftovers::no_processes(&place);
    leftovers::no_files(&place, &[]);
}

#[test]
fn the_mirror_is_down() {
    let place = Place::new();
    let mirror = Mirror::start(Fault::None);
    place.write("tiny.gpg", mirror::keyring());
    let recipe = place.write("tiny.yml", mirror.recipe(""));
    let address = host(&mirror);
    drop(mirror);
    let _ = place.start_build(&recipe, &[]).finish(DEADLINE).exits(4).says(&["refused", &address, "--mirror"]);
    leftovers::no_processes(&place);
    leftovers::no_files(&place, &[]);
}

/// The mirror is a host that nobody knows, so that all that reaches it went through the proxy that the environment names.
#[test]
fn the_proxy_of_the_host_is_used_for_what_the_guest_fetches_unless_it_is_not_for_that_host() {
    let place = Place::new();
    let proxy = Mirror::start(Fault::None);
    place.write("tiny.gpg", mirror::keyring());
    let address = host(&proxy);
    let recipe = place.write("tiny.yml", proxy.recipe("").replace(&address, "mirror.example.org"));
    let build = |direct: Option<&str>| {
        let mut command = place.build_command(&recipe, &[]);
        command.env("http_proxy", format!("http://{address}")).env_remove("no_proxy");
        command.envs(direct.map(|hosts| ("no_proxy", hosts)));
        let outcome = Running::start(command).finish(DEADLINE);
        measured("the proxy of the host", "seconds", outcome.took.as_secs_f64());
        leftovers::no_processes(&place);
        outcome
    };
    let _ = build(Some("mirror.example.org")).exits(4).says(&["mirror.example.org"]);
    assert_eq!(proxy.requests(), Vec::<String>::new());
    leftovers::no_files(&place, &[]);
    let _ = build(None).exits(0);
    let requests = proxy.requests();
    measured("the proxy of the host", "requests", requests.len());
    for file in ["dists/tiny/InRelease", "tiny/tiny_1.0_amd64.deb"] {
        assert!(requests.iter().any(|path| path == file), "no {file} in {requests:?}");
    }
}

/// Beside the mirror there are a server on the list, which a stage fetches from, one on another port of the same machine,
/// and a host that is nowhere.
#[test]
fn hosts_that_are_on_the_list_and_hosts_that_are_not() {
    let place = Place::with_shared_appliance();
    let [mirror, listed, other] = [(); 3].map(|()| Mirror::start(Fault::None));
    place.write("tiny.gpg", mirror::keyring());
    let run = |script: &str| format!("  - type: run\n    options: {{ script: \"{script}\" }}\n");
    let release = |server: &Mirror| format!("wget -q -O - {}dists/tiny/Release", server.url());
    let fetch = run(&format!("{} | grep '^Codename: tiny'", release(&listed)));
    let refused = format!("{}; wget -O - http://elsewhere.example.org/", release(&other).replace("-q ", ""));
    let recipe = mirror.recipe(&(fetch + &run(&refused.replacen(';', " || true;", 1))));
    let recipe = place.write("tiny.yml", recipe + &format!("network: {{ allow: [\"{}\"] }}\n", host(&listed)));
    let outcome = place.start_build(&recipe, &[]).finish(DEADLINE).exits(1);
    measured("the list of hosts", "seconds to the failure", outcome.took.as_secs_f64());
    let _ = outcome.says(&["3/3 run", "403", &host(&other), "elsewhere.example.org", "network.allow"]);
    assert_eq!(listed.requests(), ["dists/tiny/Release"]);
    assert_eq!(other.requests(), Vec::<String>::new());
    let log = std::fs::read_to_string(place.cache().join("particle-vm/logs/tiny.log")).unwrap();
    assert!(log.lines().any(|line| line.ends_with("Codename: tiny")), "{log}");
    leftovers::no_processes(&place);
    leftovers::no_files(&place, &[]);
}

#[test]
fn a_second_build_fetches_no_package_again_and_a_mended_mirror_is_believed() {
    let place = Place::new();
    let mirror = Mirror::start(Fault::WrongPackage);
    place.write("tiny.gpg", mirror::keyring());
    let recipe = place.write("tiny.yml", mirror.recipe(""));
    let _ = place.start_build(&recipe, &[]).finish(DEADLINE).exits(4);

    mirror.set(Fault::None);
    let _ = place.start_build(&recipe, &[]).finish(DEADLINE).exits(0);
    let packages = || mirror.requests().iter().filter(|path| path.ends_with(".deb")).count();
    let before = packages();
    let _ = place.start_build(&recipe, &["--no-cache"]).finish(DEADLINE).exits(0);
    assert_eq!(packages(), before, "{:?}", mirror.requests());

    let manifest = place.manifest();
    let text = manifest.to_string();
    assert!(text.contains("tiny_1.0_amd64.deb") && text.contains("InRelease"), "{manifest:#}");
}

#[test]
fn a_mirror_that_replaces_a_package_under_its_name_is_believed_at_once() {
    let place = Place::new();
    let mirror = Mirror::start(Fault::None);
    place.write("tiny.gpg", mirror::keyring());
    let recipe = place.write("tiny.yml", mirror.recipe(""));
    let package = || {
        let outcome = place.start_build(&recipe, &[]).finish(DEADLINE).exits(0);
        measured("a replaced package", "seconds of a build", outcome.took.as_secs_f64());
        let inputs = place.manifest()["inputs"].as_array().unwrap().clone();
        // The last one is the one that was used.
        let package = inputs.into_iter().rfind(|input| input["url"].as_str().is_some_and(|url| url.ends_with(".deb")));
        package.unwrap()
    };
    let before = package();
    mirror.replace_package();
    let after = package();
    assert_ne!(before["sha256"], after["sha256"]);
    assert_eq!(after["from_store"], false, "{after}");
}

#[test]
fn the_configuration_of_apt_on_the_host_is_broken() {
    let place = Place::new();
    let mirror = Mirror::start(Fault::None);
    place.write("tiny.gpg", mirror::keyring());
    let recipe = place.write("tiny.yml", mirror.recipe(""));
    let broken = place.write("broken.conf", "Acquire::Retries \"3\"\n");
    let mut command = place.command(&["plan", recipe.to_str().unwrap()]);
    command.env("APT_CONFIG", &broken);
    let outcome = Running::start(command).finish(DEADLINE).exits(3);
    let _ = outcome.says(&["apt-config", "broken.conf:2", "/etc/apt/apt.conf.d"]);
}
