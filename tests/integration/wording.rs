//! Documents, messages and comments are written plainly: no sentence is inverted.

use std::fs;
use std::path::{Path, PathBuf};

/// Openings of inverted sentences, in lower case.
const INVERTED_OPENINGS: &[&str] = &[
    "of what is ",
    "of what has ",
    "read are ",
    "left out are ",
    "taken up are ",
    "where not one ",
    "where none of ",
    "told is ",
    "over what ",
    "only over a ",
    "requests say that who",
    "what is not marked ",
    "what is not confirmed ",
    "what stands behind ",
    "what was sent ",
    "nothing says who ",
    "signed are ",
    "what has no ",
    "beside it lies",
];

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found
}

/// The beginnings of the sentences of a text.
fn sentences(text: &str) -> impl Iterator<Item = &str> {
    text.split(['.', ':', ';', '|', '\n'])
        .map(|sentence| sentence.trim_start_matches(|c: char| c.is_whitespace() || "-*#>`(".contains(c)))
}

fn inverted_sentences(text: &str) -> Vec<String> {
    // Paragraphs and items end a sentence; lines do not.
    let flowing = text.replace("\n- ", ". ").replace("\n\n", ". ").replace('\n', " ");
    sentences(&flowing)
        .filter(|sentence| {
            let sentence = sentence.to_lowercase();
            let names_before_verb = sentence.starts_with("what a ") && sentence.contains(" that is ");
            names_before_verb || INVERTED_OPENINGS.iter().any(|opening| sentence.starts_with(opening))
        })
        .map(|sentence| sentence.chars().take(60).collect())
        .collect()
}

/// The string literals of a source file outside its tests.
fn literals(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or(source);
    let mut found = Vec::new();
    for line in source.lines().filter(|line| !line.trim_start().starts_with("//")) {
        let mut rest = line;
        while let Some(start) = rest.find('"') {
            let text = &rest[start + 1..];
            let Some(end) = text.find('"') else {
                found.push(text.to_owned());
                break;
            };
            found.push(text[..end].to_owned());
            rest = &text[end + 1..];
        }
    }
    found
}

/// The comments of a source file as text; code between two comments separates their paragraphs.
fn comments(source: &str) -> String {
    let words = |line: &str| {
        line.trim_start().strip_prefix("//").map(|text| text.trim_start_matches(['/', '!']).trim().to_owned())
    };
    let paragraphs: Vec<String> = source.lines().map(|line| words(line).unwrap_or_default()).collect();
    paragraphs.join("\n")
}

#[test]
fn documents_have_no_inverted_sentences() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents = files("docs", "md");
    documents.extend([root.join("README.md"), root.join("CONTRIBUTING.md")]);
    for path in documents {
        let found = inverted_sentences(&fs::read_to_string(&path).unwrap());
        assert!(found.is_empty(), "{}: {found:?}", path.display());
    }
}

#[test]
fn messages_have_no_inverted_sentences() {
    let mut count = 0;
    let is_of_tests = |path: &PathBuf| path.ends_with("tests.rs") || path.iter().any(|part| part == "tests");
    for path in files("src", "rs").into_iter().filter(|path| !is_of_tests(path)) {
        for literal in literals(&fs::read_to_string(&path).unwrap()) {
            count += 1;
            // `cargo test --test integration wording -- --nocapture` lists them all.
            if literal.contains(' ') {
                println!("{literal}");
            }
            let found = inverted_sentences(&literal);
            assert!(found.is_empty(), "{}: {found:?}", path.display());
        }
    }
    assert!(count > 1000);
}

#[test]
fn comments_have_no_inverted_sentences() {
    for path in ["src", "tests", "benches", "examples"].into_iter().flat_map(|folder| files(folder, "rs")) {
        let found = inverted_sentences(&comments(&fs::read_to_string(&path).unwrap()));
        assert!(found.is_empty(), "{}: {found:?}", path.display());
    }
}

#[test]
fn inverted_sentences_are_found_wherever_they_begin() {
    assert_eq!(
        inverted_sentences("Fine so far. Of what is\nlisted, little stays."),
        ["Of what is listed, little stays"]
    );
    assert_eq!(inverted_sentences("- Read are files"), ["Read are files"]);
    assert_eq!(
        inverted_sentences("What a reply means that is no success"),
        ["What a reply means that is no success"]
    );
    assert!(inverted_sentences("Files are read. They are what is kept.").is_empty());
    assert_eq!(
        inverted_sentences(&comments("/// One thing. Told is\n/// little.\nlet x = 1; // Read are")),
        ["Told is little"]
    );
}
