//! What the documents say about the sources has to hold.

use particle_vm_tests::place;

/// Each test that `docs/threat-model.md` names as a proof is there, in the file that it names.
#[test]
fn the_proofs_of_the_threat_model_exist() {
    let root = place::root();
    let text = std::fs::read_to_string(root.join("docs/threat-model.md")).unwrap();
    let mut proofs = 0;
    // In a row of a table, code between backticks is a file, or a function of the file before it.
    for row in text.lines().filter(|line| line.starts_with('|')) {
        let mut source: Option<(&str, String)> = None;
        for code in row.split('`').skip(1).step_by(2) {
            if code.ends_with(".rs") {
                let content =
                    std::fs::read_to_string(root.join(code)).unwrap_or_else(|error| panic!("{code}: {error}"));
                source = Some((code, content));
            } else if let Some((file, content)) = &source {
                assert!(content.contains(&format!("fn {code}(")), "there is no test {code} in {file}");
                proofs += 1;
            }
        }
    }
    assert!(proofs >= 30, "only {proofs} proofs were found");
}
