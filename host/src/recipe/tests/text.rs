use super::*;

#[test]
fn text_is_one_yaml_document() {
    table(
        str::to_owned,
        &[
            ("", ""),
            ("# nothing\n", ""),
            ("---\n", ""),
            ("name: [a", ""),
            ("name: x\n\tstages: y", ""),
            ("name: 'x", ""),
            ("name: x\n---\nname: y\n", ""),
            ("name: !!python/object x\n", ""),
            ("? [a]\n: b\n", ""),
            ("name: *unknown\n", ""),
            ("<<: { name: x }\n", ""),
            ("name: \u{0}x", ""),
        ],
    );
}

#[test]
fn keys_are_given_once() {
    table(with_line, &[("name: again", ""), ("output: { formats: [raw], formats: [qcow2] }", "")]);
}

#[test]
fn an_alias_bomb_does_not_go_off() {
    let mut bomb = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..30 {
        let before = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{before}]\n"));
    }
    let started = std::time::Instant::now();
    let said = said(&bomb);
    assert!(said.contains("with its aliases unfolded this takes more than 16 MiB"), "{said}");
    assert!(started.elapsed().as_secs() < 5);
    let text = format!("a: &a \"{}\"\nb: [{}]\n", "x".repeat(500_000), vec!["*a"; 10_000].join(", "));
    assert!(super::said(&text).contains("unfolded"));
}

#[test]
fn deep_nesting_is_refused() {
    for text in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000)] {
        let said = said(&text);
        assert!(said.contains("nested more than 32 levels") || said.contains("not YAML"), "{said}");
    }
}

#[test]
fn aliases_can_be_used() {
    let recipe = with_line("output: { formats: &formats [raw] }\ntests: [&t { name: a, run: x }, *t]");
    assert_eq!(said(&recipe), "8:31 two tests are called `a`\n");
}

#[test]
fn a_large_file_is_refused_before_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.yml");
    File::create(&path).unwrap().set_len(100 << 20).unwrap();
    let error = load(&path, &BTreeMap::new()).unwrap_err();
    let message = error.iter().next().unwrap().message.to_string();
    assert_eq!(message, "the recipe has 104857600 bytes, and recipes end at 1MiB");
}

#[test]
fn what_is_no_readable_file_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let message =
        |path: &FilePath| load(path, &BTreeMap::new()).unwrap_err().iter().next().unwrap().message.to_string();
    assert!(message(&folder.path().join("none.yml")).contains("No such file"));
    assert_eq!(message(folder.path()), "the recipe is not a file");
    let path = folder.path().join("latin1.yml");
    std::fs::write(&path, b"name: x\ndescription: \xe4\n").unwrap();
    assert_eq!(message(&path), "line 2 is not UTF-8, so this is not YAML");
}

#[test]
fn columns_count_characters() {
    assert_eq!(said("name: x\ndescription: ä\n\"ü\": { ö: 1 }\n").lines().next().unwrap_or_default(), "");
}

#[test]
fn the_report_shows_the_line() {
    let error =
        parse(Source::new("r.yml", with_line("outputs: { formats: [raw] }")), FilePath::new("."), &BTreeMap::new());
    let report = crate::error::Classify::details(&error.unwrap_err()).unwrap();
    assert_eq!(report, "");
}
