//! `deploy/compose.yaml`, checked without a container engine: everything it names exists, and its flags and variables
//! do what it says.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use saphyr::{LoadableYamlNode, Yaml};
use serde_json::Value;

use crate::deploy::{as_json, help, items, words};
use crate::harness::{TestEnv, string};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

fn text() -> String {
    fs::read_to_string(folder().join("compose.yaml")).unwrap()
}

fn document() -> Value {
    as_json(&Yaml::load_from_str(&text()).unwrap()[0])
}

/// Replaces `${NAME:-default}` by the default.
fn with_defaults(value: &str) -> String {
    let Some((before, rest)) = value.split_once("${") else { return value.replace("$$", "$") };
    let (variable, after) = rest.split_once('}').expect("the end of a variable");
    let (_, default) = variable.split_once(":-").expect("a default");
    format!("{before}{default}{}", with_defaults(after))
}

/// The services by name.
fn services(document: &Value) -> Vec<(&String, &Value)> {
    document["services"].as_object().unwrap().iter().collect()
}

/// The volumes of a service, as source and mount point.
fn mounts(service: &Value) -> Vec<(String, String)> {
    let one = |value: &Value| {
        let text = with_defaults(&string(value));
        let mut parts = text.split(':').map(str::to_owned);
        (parts.next().unwrap_or_default(), parts.next().expect("a place in the container"))
    };
    items(&service["volumes"]).iter().map(one).collect()
}

#[test]
fn all_volumes_folders_and_images_exist() {
    let document = document();
    let declared: BTreeSet<&String> = document["volumes"].as_object().unwrap().keys().collect();
    let mut used = BTreeSet::new();
    for (name, service) in services(&document) {
        for (what, place) in mounts(service) {
            assert!(place.starts_with('/'), "{name}: {place}");
            if what.starts_with('.') {
                assert!(folder().join(&what).is_dir(), "{name}: {what}");
            } else {
                used.insert(what);
            }
        }
        let build = &service["build"];
        if build.is_object() {
            let context = folder().join(string(&build["context"]));
            assert!(context.join(string(&build["dockerfile"])).is_file(), "{name}: {build}");
        } else {
            let image = string(&service["image"]);
            let (repository, version) = image.rsplit_once(':').expect("a version");
            assert_eq!(repository, "docker.elastic.co/elasticsearch/elasticsearch", "{name}");
            let tried = fs::read_to_string(folder().join("../docs/servers.md")).unwrap();
            assert!(
                tried.contains(&format!("| Elasticsearch {version} |")),
                "{name}: {version} was not tried"
            );
        }
    }
    assert!(declared.into_iter().eq(used.iter()), "every declared volume is used");
}

#[test]
fn services_wait_on_conditions_that_can_be_met() {
    let document = document();
    for (name, service) in services(&document) {
        for (other, condition) in service["depends_on"].as_object().into_iter().flatten() {
            let other = &document["services"][other];
            assert!(other.is_object(), "{name}: {other}");
            match condition["condition"].as_str().unwrap() {
                "service_healthy" => assert!(other["healthcheck"]["test"].is_array(), "{name}"),
                "service_completed_successfully" => assert!(other["ports"].is_null(), "{name}"),
                unknown => panic!("{name}: {unknown}"),
            }
        }
    }
}

#[test]
fn the_certificate_has_the_expected_path_and_host() {
    let document = document();
    let of = |name: &str| &document["services"][name];
    let script = string(&of("certificates")["command"][0]);
    let volume = |name: &str| {
        let mounts = mounts(of(name));
        mounts
            .into_iter()
            .find(|(what, _)| what == "certs")
            .map(|(_, place)| place)
            .expect("the certificates")
    };
    let made = ["ca/ca.crt", "elasticsearch/elasticsearch.key", "elasticsearch/elasticsearch.crt"];
    assert!(script.contains("--name elasticsearch") && script.contains("--ca-cert ca/ca.crt"), "{script}");
    let settings = of("elasticsearch")["environment"].as_object().unwrap();
    let files = settings.iter().filter(|(name, value)| name.contains(".ssl.") && string(value).contains('/'));
    let mut count = 0;
    for (name, value) in files {
        let value = string(value);
        let file = value.strip_prefix("certs/").unwrap_or_else(|| panic!("{name}: {value}"));
        assert!(made.contains(&file), "{name}: {value}");
        count += 1;
    }
    assert_eq!(count, 6);
    assert_eq!(volume("elasticsearch"), "/usr/share/elasticsearch/config/certs");
    let loader = &of("loader")["environment"];
    let ca = string(&loader["ELASTICSEARCH_CA_CERT"]);
    assert_eq!(ca.strip_prefix(&format!("{}/", volume("loader"))), Some(made[0]));
    let host = string(&loader["ELASTICSEARCH_URL"]).replace("https://", "").replace(":9200", "");
    assert!(of(&host).is_object() && script.contains(&format!("--dns {host} ")), "{host}");
    // Elasticsearch runs in the group root, and must read the key.
    assert!(script.contains("-name '*.key' -exec chmod 640"), "{script}");
}

#[test]
fn all_files_the_image_writes_are_in_a_volume() {
    let document = document();
    let loader = &document["services"]["loader"];
    assert_eq!(loader["read_only"], true);
    let image = fs::read_to_string(folder().join("Dockerfile")).unwrap();
    let written: Vec<&str> = image
        .split_whitespace()
        .filter_map(|word| word.split_once("_FILE=").or(word.split_once("_JSON=")))
        .map(|(_, path)| path)
        .collect();
    assert_eq!(written.len(), 3, "{written:?}");
    let places: Vec<String> = mounts(loader).into_iter().map(|(_, place)| format!("{place}/")).collect();
    for path in written {
        assert!(places.iter().any(|place| path.starts_with(place)), "{path}");
    }
}

#[test]
fn the_loader_uses_known_flags_and_loads_the_sample_archives() {
    let document = document();
    let loader = &document["services"]["loader"];
    let help = help();
    let flags = words(&help, |c| c.is_ascii_lowercase() || c == '-');
    let variables = words(&help, |c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    let arguments: Vec<String> = items(&loader["command"]).iter().map(string).collect();
    for flag in arguments.iter().filter(|argument| argument.starts_with("--")) {
        assert!(flags.contains(&**flag), "{flag}");
    }
    let mounted = mounts(loader);
    let here = |argument: &String| {
        let mount = mounted.iter().find(|(_, place)| argument == place);
        mount.map_or(argument.clone(), |(what, _)| folder().join(what).display().to_string())
    };
    let arguments: Vec<String> = arguments.iter().map(here).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let env = TestEnv::new();
    let mut run =
        env.ingest().without("ELASTICSEARCH_API_KEY").without("LOCAL_SQLITE_DB_PATH").args(&arguments);
    let environment = loader["environment"].as_object().unwrap();
    for (name, value) in environment {
        assert!(variables.contains(&**name), "{name}");
        run = match name.as_str() {
            // The fake server speaks plain HTTP.
            "ELASTICSEARCH_URL" => run,
            "ELASTICSEARCH_CA_CERT" => run,
            _ => run.var(name, &with_defaults(&string(value))),
        };
    }
    let value = |name: &str| with_defaults(&string(&environment[name]));
    let user = format!("{}:{}", value("ELASTICSEARCH_USERNAME"), value("ELASTICSEARCH_PASSWORD"));
    assert_eq!(
        user,
        format!(
            "elastic:{}",
            with_defaults(&string(&document["services"]["elasticsearch"]["environment"]["ELASTIC_PASSWORD"]))
        )
    );
    env.fake.admit(Some(&format!("Basic {}", STANDARD.encode(user))));
    let run = run.run().exits(0);
    run.check(run.count("rows.indexed") > 0, "documents are loaded");
}

#[test]
fn the_file_says_that_no_engine_has_run_it() {
    assert!(text().contains("No container engine has run this file yet"));
}
