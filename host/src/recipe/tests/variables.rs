use super::*;

const RECIPE: &str = "name: ${NAME}
variables: { NAME: x, SUITE: trixie, CPUS: '2' }
stages:
  - type: debootstrap
    options:
      suite: ${SUITE}
  - type: run
    options:
      script: echo ${SUITE} ${HOME} ${NAME
disk:
  size: \"${SIZE}GiB\"
resources:
  cpus: ${CPUS}
";

fn with(recipe: &str, given: &[(&str, &str)]) -> Result<Recipe, Vec<String>> {
    let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    parse(Source::new("r.yml", recipe), FilePath::new("."), &given).map_err(|findings| {
        findings.iter().map(|finding| format!("{finding} | {}", finding.help.as_deref().unwrap_or_default())).collect()
    })
}

#[test]
fn variables_are_replaced() {
    let recipe = RECIPE.replace("NAME: x", "NAME: x, SIZE: '3'");
    let recipe = with(&recipe, &[("SUITE", "bookworm")]).unwrap();
    assert_eq!(
        (recipe.name.as_str(), recipe.disk.unwrap().size, recipe.resources.cpus),
        ("x", Some(Size(3 * GIB)), Some(2))
    );
    assert_eq!(recipe.variables["SUITE"], "bookworm");
    let Stage::Debootstrap(options) = &recipe.stages[0].stage else { panic!() };
    assert_eq!(options.suite, "bookworm");
    let Stage::Run(options) = &recipe.stages[1].stage else { panic!() };
    assert_eq!(options.script.as_deref(), Some("echo bookworm ${HOME} ${NAME"));
}

#[test]
fn unknown_variables_are_told() {
    let said = with(RECIPE, &[("SUIT", "bookworm")]).unwrap_err();
    let expected = [
        "r.yml: `--set SUIT`: the recipe has no variable of this name | did you mean `SUITE`?",
        "r.yml:11:9: there is no variable `SIZE` | declare it: `variables: { SIZE: ... }`",
    ];
    assert_eq!(said, expected);
}

#[test]
fn values_stay_where_they_are() {
    // A value cannot become another key, and findings about it point at its place.
    let recipe = RECIPE.replace("NAME: x", "NAME: x, SIZE: '3'");
    let said = with(&recipe, &[("NAME", "x\ndescription: y"), ("CPUS", "many")]).unwrap_err();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with("r.yml:1:7: `x\\ndescription: y` is not a name of an image"), "{said:?}");
    assert!(said[1].starts_with("r.yml:13:9: `cpus` is a whole number from 0, and not a text"), "{said:?}");
    let said = with(&RECIPE.replace("cpus: ", "${CPUS}: "), &[]).unwrap_err();
    assert!(said.iter().any(|line| line.contains("13:3: a key cannot have a variable in it")), "{said:?}");
}

#[test]
fn values_do_not_grow_without_end() {
    let many = "${A}".repeat(100_000);
    let recipe = format!("{GOOD}variables: {{ A: x }}\ndescription: \"{many}\"\n");
    let said = with(&recipe, &[("A", &"x".repeat(1000))]).unwrap_err();
    assert!(said[0].contains("with its variables replaced the recipe takes more than 16 MiB"), "{}", &said[0][..100]);
}

#[test]
fn a_value_is_text_as_it_is_written() {
    let recipe = GOOD.replace("name: good", "name: v${A}-${B}")
        + "variables: { A: 1.10, B: 2, C: true }\nresources: { cpus: \"${B}\" }\n";
    let said = with(&recipe, &[]).unwrap_err();
    assert_eq!(said, ["r.yml:8:20: `cpus` is a whole number from 0, and not a text | write it without quotes"]);
    let recipe = with(&recipe.replace("\"${B}\"", "2"), &[]).unwrap();
    assert_eq!((recipe.name.as_str(), recipe.variables["C"].as_str()), ("v1.10-2", "true"));
}

#[test]
fn a_variable_without_a_value_is_told_once() {
    let recipe = format!("{GOOD}variables: {{ C: [2], D: }}\nresources: {{ cpus: \"${{C}}\", memory: \"${{D}}\" }}\n");
    let said = with(&recipe, &[]).unwrap_err();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with("r.yml:7:14: `C` is a text, and not a list"), "{said:?}");
    assert!(said[1].starts_with("r.yml:7:22: `D` is a text, and not empty"), "{said:?}");
}
