use super::*;

#[test]
fn text_is_one_yaml_document() {
    table(
        str::to_owned,
        &[
            ("", "1:1 the recipe is empty"),
            ("# nothing\n", "1:1 the recipe is empty"),
            ("---\n", "1:1 the recipe is empty"),
            ("name: [a", "1:9 this is not YAML: while parsing a flow sequence, expected ',' or ']'"),
            ("name: x\n\tstages: y", "1:7 this is not YAML: while scanning a plain scalar, found a tab"),
            ("name: 'x", "1:7 this is not YAML: while scanning a quoted scalar, found unexpected end of stream"),
            (
                "name: x\n---\nname: y\n",
                "2:1 a second document begins here | a recipe is one YAML document; put this one into a file of its own",
            ),
            (
                "name: !!python/object x\n",
                "1:7 the YAML tag `tag:yaml.org,2002:!python/object` means nothing in a recipe | remove it; text that looks like a number goes into quotes",
            ),
            ("? [a]\n: b\n", "1:3 a list or a mapping cannot be a key"),
            ("name: *unknown\n", "1:7 this is not YAML: while parsing node, found unknown anchor"),
            (
                "<<: { name: x }\n",
                "1:1 the recipe has no key `<<` | keys: `architecture`, `base-image`, `description`, `disk`, `engine`, `name`, `network`, `output`, `resources`, `stages`, `tests`, `variables`\n1:1 the recipe lacks the key `disk` | `disk`: The disk that is made; the formats `oci-archive`, `oci`, `docker-archive`, `ostree-repo` and `tar` need none\n1:1 the recipe lacks the key `name` | `name`: Name of the image and of its files: small letters, digits, `.`, `_` and `-`.\n1:1 the recipe lacks the key `stages` | `stages`: What is done, in this order.",
            ),
            ("name: \u{0}x", "1:7 this is not YAML: found unprintable character"),
        ],
    );
}

#[test]
fn keys_are_given_once() {
    table(
        with_line,
        &[
            (
                "name: again",
                "7:1 the key `name` is given a second time | it stands in line 1 already; keep one of them",
            ),
            (
                "output: { formats: [raw], formats: [qcow2] }",
                "7:27 the key `formats` is given a second time | it stands in line 7 already; keep one of them",
            ),
        ],
    );
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
    assert_eq!(said(&recipe), "8:20 two tests are called `a`\n");
}

#[test]
fn a_large_file_is_refused_before_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.yml");
    File::create(&path).unwrap().set_len(100 << 20).unwrap();
    let error = load(&path, &BTreeMap::new()).unwrap_err();
    let message = error.iter().next().unwrap().message.to_string();
    assert_eq!(message, "the recipe has 104857600 bytes, and 1MiB is the most");
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
    table(
        with_line,
        &[(
            "tests: [{ name: 'ä𝄞', run: x, ö: 1 }]",
            "7:31 an item of `tests` has no key `ö` | keys: `diag`, `expect`, `name`, `reboot`, `run`, `timeout`",
        )],
    );
}

#[test]
fn every_end_of_a_line_counts() {
    let text = GOOD.replace("suite: trixie", "suit: trixie");
    let at = |text: &str| findings(text, FilePath::new(".")).iter().map(|finding| finding.place()).collect::<Vec<_>>();
    for end in ["\n", "\r\n", "\r"] {
        assert_eq!(at(&text.replace('\n', end)), at(&text), "{end:?}");
    }
    let error =
        parse(Source::new("r.yml", text.replace('\n', "\r")), FilePath::new("."), &BTreeMap::new()).unwrap_err();
    let report = crate::error::Classify::details(&error).unwrap();
    assert!(report.contains("r.yml:3:37") && report.contains(" 3 |   - { type: debootstrap") && !report.contains('\r'));
    assert!(said("name: x\n\tstages: y").starts_with("1:7 ") || said("a:\n\tb: 1").starts_with("2:1 "));
}

#[test]
fn the_report_shows_the_line() {
    let recipe = with_line("outputs: { formats: [raw] }");
    let error = parse(Source::new("r.yml", recipe), FilePath::new("."), &BTreeMap::new()).unwrap_err();
    let report = crate::error::Classify::details(&error).unwrap();
    for expected in [
        "the recipe has no key `outputs`",
        "r.yml:7:1",
        "7 | outputs: { formats: [raw] }",
        ": ^^^^^^^",
        "did you mean `output`?",
    ] {
        assert!(report.contains(expected), "{expected} is missing in\n{report}");
    }
    assert!(report.is_ascii(), "{report}");
    assert_eq!(error.to_string(), "r.yml has a problem");
    let inner = with_line("output: { formts: [raw] }");
    let error = parse(Source::new("r.yml", inner), FilePath::new("."), &BTreeMap::new()).unwrap_err();
    let report = error.render(false);
    assert!(report.contains("r.yml:7:11") && report.contains("7 | output: { formts: [raw] }"), "{report}");
}

#[test]
fn hostile_text_stays_plain_and_short() {
    let recipe = with_line(&format!("description: x\n\"\\e[31m{}\": 1", "y".repeat(100_000)));
    let error = parse(Source::new("r.yml", recipe), FilePath::new("."), &BTreeMap::new()).unwrap_err();
    let report = crate::error::Classify::details(&error).unwrap();
    assert!(!report.contains('\u{1b}') && report.len() < 5000, "{} bytes", report.len());
}

#[test]
fn a_recipe_of_mistakes_is_no_long_wait() {
    let started = std::time::Instant::now();
    let unknown: String = (0..10_000).map(|number| format!("k{number}: 1\n")).collect();
    let same = "a: 1\n".repeat(30_000);
    let items = format!("{GOOD}output: {{ formats: [{}] }}\n", "x, ".repeat(50_000));
    let units: String = (0..10_000).map(|number| format!("u{number}, ")).collect();
    let units = with_stage(&format!("systemd, options: {{ enable: [{units}], mask: [{units}] }}"));
    for text in [unknown, same, items, units] {
        let count = findings(&text, FilePath::new(".")).len();
        assert!((1..=finding::MAX_FINDINGS).contains(&count), "{count}");
    }
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}
