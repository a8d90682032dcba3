//! What `particle-vm schema` prints is a schema, and recipes are held to it as they are by the reader.

use jsonschema::Validator;
use particle_vm_tests::{Place, place};
use serde_json::{Value, json};
use std::time::Duration;

fn schema() -> Value {
    let place = Place::with_empty_cache();
    serde_json::from_str(&place.start(&["schema"]).finish(Duration::from_secs(60)).exits(0).stdout).unwrap()
}

fn validator() -> Validator {
    jsonschema::draft202012::new(&schema()).unwrap()
}

#[test]
fn it_is_one_of_recipes() {
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let required: Vec<_> = schema["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    // What else it needs depends on whether it starts from an image, and on its formats.
    assert_eq!(required, ["name"]);
    assert!(schema["properties"]["stages"].is_object(), "{schema}");
}

#[test]
fn the_recipes_that_ship_satisfy_it() {
    let (root, validator) = (place::root(), validator());
    let folders =
        ["recipes", "tests/fixtures/large-sectors"].map(|folder| std::fs::read_dir(root.join(folder)).unwrap());
    let files = folders.into_iter().flatten().map(|file| file.unwrap().path());
    let recipes = files.filter(|path| path.extension().is_some_and(|extension| extension == "yml"));
    let count = recipes
        .map(|path| {
            let recipe: Value = serde_yaml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
            let errors: Vec<_> = validator.iter_errors(&recipe).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
        })
        .count();
    assert!(count >= 5, "{count} recipes");
}

#[test]
fn what_the_reader_refuses_it_refuses() {
    let validator = validator();
    let right = json!({
        "name": "x", "disk": { "size": "1GiB" },
        "stages": [{ "type": "hostname", "options": { "hostname": "x" } }],
    });
    assert!(validator.is_valid(&right));
    let wrong = [
        ("", json!({ "nmae": "x" })),
        ("/stages/0", json!({ "type": "hostnaem" })),
        ("/stages/0", json!({ "unknown": 1 })),
        ("/stages/0/options", json!({ "hostname": 1 })),
        ("/stages/0/options", json!({ "unknown": 1 })),
        ("/disk", json!({ "size": [] })),
    ];
    for (at, change) in wrong {
        let mut recipe = right.clone();
        let object = recipe.pointer_mut(at).and_then(Value::as_object_mut).unwrap();
        object.extend(change.as_object().unwrap().clone());
        assert!(!validator.is_valid(&recipe), "{recipe:#}");
    }
}
