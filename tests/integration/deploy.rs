//! The files of `deploy/` parse, and name only flags, variables and volumes that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use saphyr::{LoadableYamlNode, Yaml};
use serde_json::{Map, Value};

use crate::harness::{TestEnv, string};

/// Words in capitals that are not variables of the program: those of schedulers, of systemd and of the files.
const OTHERS: &[&str] = &[
    "AF_INET",
    "AF_INET6",
    "AF_UNIX",
    "AWS_BATCH_JOB_ARRAY_INDEX",
    "ELASTIC_PASSWORD",
    "ES_JAVA_OPTS",
    "FROM_TIME",
    "MEGASTREAM_ARCHIVES",
    "MEGASTREAM_INGEST",
    "MEGASTREAM_SOURCE",
    "SLURM_ARRAY_TASK_COUNT",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_CPUS_PER_TASK",
    "SLURM_HEAD",
    "SLURM_MORE",
    "STATE_FOLDER",
    "THIS_FILE",
    "TO_TIME",
];

/// The files of the folder by name.
fn files() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    entries.map(|path| (name(&path), fs::read_to_string(path).unwrap())).collect()
}

/// The documents of all manifests, with their file names.
fn documents() -> Vec<(String, Value)> {
    let yaml = files().into_iter().filter(|(name, _)| name.starts_with("kubernetes"));
    yaml.flat_map(|(name, text)| {
        let documents = Yaml::load_from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        documents.iter().map(|document| (name.clone(), as_json(document))).collect::<Vec<_>>()
    })
    .collect()
}

pub(crate) fn as_json(yaml: &Yaml<'_>) -> Value {
    if let Some(mapping) = yaml.as_mapping() {
        let entry = |(key, value): (&Yaml<'_>, &Yaml<'_>)| {
            (key.as_str().expect("a key that is text").to_owned(), as_json(value))
        };
        return Value::Object(mapping.iter().map(entry).collect::<Map<_, _>>());
    }
    if let Some(sequence) = yaml.as_sequence() {
        return sequence.iter().map(as_json).collect();
    }
    let number = yaml.as_integer().map(Value::from);
    let truth = yaml.as_bool().map(Value::from);
    number.or(truth).or(yaml.as_str().map(Value::from)).unwrap_or_default()
}

/// The pods of the manifests, each with the volume claim templates of its workload.
fn pods() -> Vec<(String, Value, Value)> {
    let of = |(name, document): (String, Value)| {
        let spec = &document["spec"];
        let pod = &spec["template"]["spec"];
        pod.is_object().then(|| (name, pod.clone(), spec["volumeClaimTemplates"].clone()))
    };
    documents().into_iter().filter_map(of).collect()
}

pub(crate) fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

pub(crate) fn help() -> String {
    let env = TestEnv::new();
    env.ingest().without("SUMMARY_JSON").args(&["--help"]).run().exits(0).stdout
}

/// The words of a text that consist of these characters.
pub(crate) fn words(text: &str, of_word: impl Fn(char) -> bool) -> BTreeSet<&str> {
    text.split(|c| !of_word(c)).filter(|word| !word.is_empty()).collect()
}

#[test]
fn every_variable_exists_in_the_program() {
    let help = help();
    let of_word = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let known = words(&help, of_word);
    for (name, text) in files() {
        for word in words(&text, |c| c.is_ascii_alphanumeric() || c == '_') {
            let is_variable = word.contains('_') && word.chars().all(of_word);
            assert!(!is_variable || known.contains(word) || OTHERS.contains(&word), "{name}: {word}");
        }
    }
    for (name, pod, _) in pods() {
        for variable in items(&pod["containers"]).iter().flat_map(|container| items(&container["env"])) {
            let variable = string(&variable["name"]);
            assert!(known.contains(&*variable), "{name}: {variable}");
        }
    }
}

#[test]
fn every_flag_exists_in_the_program() {
    let help = help();
    let known = words(&help, |c| c.is_ascii_lowercase() || c == '-');
    let mut arguments: Vec<(String, String)> = Vec::new();
    for (name, pod, _) in pods() {
        let of_container = items(&pod["containers"]).iter().flat_map(|container| items(&container["args"]));
        arguments.extend(of_container.map(|argument| (name.clone(), string(argument))));
    }
    for (name, text) in files().into_iter().filter(|(name, _)| name.ends_with(".service")) {
        let command = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a command");
        arguments.extend(command.split(' ').map(|argument| (name.clone(), argument.to_owned())));
    }
    let flags: Vec<_> = arguments.into_iter().filter(|(_, argument)| argument.starts_with("--")).collect();
    assert!(flags.len() >= 5, "{flags:?}");
    for (name, flag) in flags {
        assert!(known.contains(&*flag), "{name}: {flag}");
    }
}

#[test]
fn manifests_are_complete_and_every_mount_has_a_volume() {
    for (name, document) in documents() {
        for field in ["/apiVersion", "/kind", "/metadata/name", "/spec"] {
            assert!(document.pointer(field).is_some(), "{name}: {field}");
        }
    }
    let pods = pods();
    assert_eq!(pods.len(), 3);
    for (name, pod, claims) in pods {
        let mut volumes: Vec<String> = items(&pod["volumes"]).iter().map(|v| string(&v["name"])).collect();
        volumes.extend(items(&claims).iter().map(|claim| string(&claim["metadata"]["name"])));
        for container in items(&pod["containers"]) {
            let mounts: Vec<_> =
                items(&container["volumeMounts"]).iter().map(|m| string(&m["name"])).collect();
            assert!(mounts.iter().all(|mount| volumes.contains(mount)), "{name}: {mounts:?} of {volumes:?}");
            let security = &container["securityContext"];
            assert_eq!(security["readOnlyRootFilesystem"], true, "{name}");
            assert_eq!(security["allowPrivilegeEscalation"], false, "{name}");
            // Only mounted paths are writable.
            let writable: Vec<_> = items(&container["env"])
                .iter()
                .filter(|variable| string(&variable["name"]).ends_with("_FILE"))
                .collect();
            assert!(
                !writable.is_empty() && writable.iter().all(|v| string(&v["value"]).starts_with("/state/"))
            );
        }
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
        // A request in flight takes up to 90 s.
        assert!(pod["terminationGracePeriodSeconds"].as_i64() > Some(90), "{name}");
    }
}

#[test]
fn the_job_definition_is_json() {
    let (name, text) = files().into_iter().find(|(name, _)| name == "aws-batch.json").expect("the file");
    let definition: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(definition["containerProperties"]["image"].is_string());
}

#[test]
fn shards_of_no_number_are_refused_and_are_no_success() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/shards.sh");
    let env = TestEnv::with_archives(&[]);
    for count in ["0", "00", "", "x", "-1", "0/0", "1/"] {
        let call = format!("sh {} '{count}' state archives", script.display());
        let run = env.ingest().in_shell(&call).run().exits(2).says("N is");
        run.check(!env.path("state").exists(), "nothing is made");
    }
    env.ingest().in_shell(&format!("sh {}", script.display())).run().exits(2).says("usage:");
}

#[test]
fn shards_that_fail_name_their_logs() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/shards.sh");
    let env = TestEnv::with_archives(&[]);
    let call = format!("sh {} 2 state missing", script.display());
    env.ingest().in_shell(&call).run().exits(2).says("exit code 2: see the logs in state");
}
