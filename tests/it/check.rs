//! The checker: examples that hold, mistakes in any combination, edits that mend, forms for programs.

use crate::env::node_of_others;
use crate::house::repo;
use crate::plants::{HEX, PLANTS, planted};
use std::collections::BTreeMap;
use visor::check::check;
use visor::diag::{
    Code, EXAMPLE_BASE, Finding, Severity, SourceText, Style, github, human, json, mask, sarif,
};
use visor::manifest::ManifestSet;

pub(crate) fn set(files: &[(&str, &str)]) -> ManifestSet {
    let mut files: Vec<SourceText> = files
        .iter()
        .map(|(path, text)| SourceText {
            path: (*path).to_owned(),
            text: (*text).to_owned(),
        })
        .collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    ManifestSet {
        dir: "/set".into(),
        files,
        unreadable: vec![],
        beside: BTreeMap::new(),
    }
}

fn errors_and_own(findings: &[Finding], code: Code) -> Vec<Code> {
    let counts =
        |f: &&Finding| f.severity == Severity::Error || f.code == code || f.code != Code::Unused;
    findings.iter().filter(counts).map(|f| f.code).collect()
}

#[test]
fn the_examples_of_every_code_hold() {
    for code in Code::ALL {
        let e = code.explanation();
        if e.bad.is_empty() {
            assert!(
                matches!(code, Code::Unreadable | Code::Empty),
                "{code:?} has no example"
            );
            continue;
        }
        let findings =
            |text| check(&set(&[("base.toml", EXAMPLE_BASE), ("example.toml", text)])).findings;
        let bad = findings(e.bad);
        assert_eq!(errors_and_own(&bad, *code), [*code], "{code:?}: {bad:#?}");
        let good = findings(e.good);
        assert_eq!(errors_and_own(&good, *code), [], "{code:?}: {good:#?}");
    }
}

#[test]
fn the_order_of_files_and_the_number_of_threads_change_nothing() {
    let texts: Vec<(String, String)> = (0..40)
        .map(|i| {
            (
                format!("f{i:02}.toml"),
                planted(&[i % PLANTS.len(), (i * 7) % PLANTS.len()]).0,
            )
        })
        .collect();
    // Directories list their files in the order in which they came, or in one of their own.
    let laid = |texts: &mut dyn Iterator<Item = &(String, String)>| {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in texts {
            std::fs::write(dir.path().join(path), text).unwrap();
        }
        let mut set = visor::source::read_set(dir.path()).unwrap();
        set.dir = "/set".into();
        set
    };
    let (files, turned) = (laid(&mut texts.iter()), laid(&mut texts.iter().rev()));
    let form = |set: &ManifestSet, threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let findings = check(set).findings;
            human(&findings, &set.files, Style::plain(80))
                + &json(&findings, &set.files)
                + &sarif(&findings, &set.files)
        })
    };
    let first = form(&files, 1);
    assert!(first == form(&turned, 1) && first == form(&files, 4) && first == form(&turned, 3));
}

#[test]
fn a_secret_is_shown_in_no_form() {
    let text = "visor = 1\n[node.a]\nbinary = \"b\"\nhome = \"/a\"\ndata = { path = \"d\" }\nargs = [\"--password=hunter2\", \"--api-token\", \"hunter2\"]\nchain = { kind = \"evm\", rpc = \"http://me:hunter2@127.0.0.1:1\" }\n[artifact.g]\n[[artifact.g.file]]\nurls = [\"https://me:hunter2@x.example/g\"]\nsha256 = \"e3b0\"\n[node.b]\nbinary = \"b\"\nhome = \"/b\"\ndata = { path = \"d\" }\nenv = { MY_TOKEN = \"hunter2\", X = \"${nothing}\" }\n";
    let mut set = set(&[("a.toml", text)]);
    let findings = check(&set).findings;
    mask(&findings, &mut set.files);
    assert_eq!(
        findings.iter().filter(|f| f.code == Code::Secret).count(),
        4
    );
    for form in [
        human(&findings, &set.files, Style::plain(80)),
        json(&findings, &set.files),
        sarif(&findings, &set.files),
        github(&findings, &set.files),
    ] {
        assert!(!form.contains("hunter2"), "{form}");
    }
}

#[test]
fn a_secret_stays_masked_when_its_warning_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let text = "visor = 1\n[node.a]\nbinary = \"b\"\nhome = \"/a\"\ndata = { path = \"d\" }\nenv = { MY_TOKEN = \"hunter2\", X = \"${nothing}\" }\n";
    std::fs::write(dir.path().join("a.toml"), text).unwrap();
    for args in [
        &["plan", "check", "--allow", "V0303", "--manifests"][..],
        &["plan", "diff", "--manifests"],
        &["batch", "validate", "--manifests"],
    ] {
        let out = std::process::Command::new(env!("CARGO_BIN_EXE_visor"))
            .args(args)
            .arg(dir.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned()
            + &String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{text}");
        assert!(
            text.contains("V0211") && !text.contains("hunter2"),
            "{args:?}: {text}"
        );
    }
}

#[test]
fn forms_for_programs() {
    let text = "visor = 1\n[hook.a]\nrn = [\"/bin/true\"]\n[upgrade.u]\ntrigger = { manual = true }\nartifact = \"x%\"\nhooks = { prepare = [\"a\"] }\n";
    let set = set(&[("a,b.toml", text)]);
    let findings = check(&set).findings;
    insta::assert_snapshot!(github(&findings, &set.files), @r#"
    ::error file=a%2Cb.toml,line=3,endLine=3,col=1,endColumn=3,title=V0101::there is no key `rn` here%0ADid you mean `run`?
    ::error file=a%2Cb.toml,line=6,endLine=6,col=12,endColumn=16,title=V0203::there is no artifact "x%25" in the set%0ADefine [artifact."x%25"] in a file of the set, or name one that is there.
    2 errors, 0 warnings in 1 file
    "#);
    let value: serde_json::Value = serde_json::from_str(&json(&findings, &set.files)).unwrap();
    assert_eq!(value["version"], 1);
    assert_eq!(
        value["findings"][0]["fixes"],
        serde_json::json!([{ "file": "a,b.toml", "start": { "line": 3, "column": 1 }, "end": { "line": 3, "column": 3 }, "text": "run" }])
    );
    assert_eq!(
        value["summary"],
        serde_json::json!({ "files": 1, "errors": 2, "warnings": 0 })
    );
    let log: serde_json::Value = serde_json::from_str(&sarif(&findings, &set.files)).unwrap();
    let run = &log["runs"][0];
    for result in run["results"].as_array().unwrap() {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(
            run["tool"]["driver"]["rules"][index]["id"],
            result["ruleId"]
        );
        assert!(result["partialFingerprints"]["visor/v1"].is_string());
    }
    assert_eq!(
        run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"],
        "a%2Cb.toml"
    );
}

/// Every file of the corpus, which has every rule.
#[test]
fn sarif_fits_its_published_schema() {
    let how = "see `.ci/run`: npm pack @microsoft/jest-sarif, of which it is one file";
    let Some(path) = node_of_others("VISOR_SARIF_SCHEMA", "sarif-2.1.0.json", how) else {
        return;
    };
    let text = std::fs::read_to_string(path).unwrap();
    let mut schema: serde_json::Value = serde_json::from_str(&text).unwrap();
    // Its expression for properties that are not written here has a bracket too many.
    for of in ["run", "toolComponent"] {
        let language = &mut schema["definitions"][of]["properties"]["language"];
        language.as_object_mut().unwrap().remove("pattern");
    }
    let validator = jsonschema::validator_for(&schema).unwrap();
    let corpus = visor::source::read_set(&repo().join("tests/invalid")).unwrap();
    let mut logs = 0;
    for file in &corpus.files {
        let set = set(&[(&file.path, &file.text)]);
        let findings = check(&set).findings;
        let log = serde_json::from_str(&sarif(&findings, &set.files)).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&log)
            .map(|e| format!("{} at {}", e, e.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", file.path);
        logs += 1;
    }
    assert!(logs > 250, "{logs}");
    println!("{logs} logs of SARIF fit the schema");
}

#[test]
fn a_set_that_init_writes_passes_as_it_is_and_with_its_comments_taken_off() {
    use std::os::unix::fs::PermissionsExt as _;
    for kind in ["evm", "generic"] {
        let dir = tempfile::tempdir().unwrap();
        let visor = |args: &[&str]| {
            let out = std::process::Command::new(env!("CARGO_BIN_EXE_visor"))
                .current_dir(dir.path())
                .args(args)
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&out.stdout).into_owned()
                + &String::from_utf8_lossy(&out.stderr);
            (out.status.code(), text)
        };
        assert_eq!(visor(&["init", kind]).0, Some(0));
        assert_eq!(
            visor(&["plan", "check"]),
            (Some(0), "1 file checked, nothing found\n".into())
        );
        // Nothing is replaced.
        assert_eq!(visor(&["init", kind]).0, Some(64));
        assert_eq!(visor(&["init", kind, "-m", "other"]).0, Some(0));
        assert!(dir.path().join("other/visor.toml").is_file());
        let path = dir.path().join("manifests/visor.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let bare = text.lines().map(|line| {
            let inner = line.strip_prefix("# ").unwrap_or(line);
            let is_toml = inner.starts_with('[')
                || inner
                    .split_once(" = ")
                    .is_some_and(|(k, _)| !k.contains(' '));
            if is_toml && !inner.starts_with("genesis") {
                inner
            } else {
                line
            }
        });
        let bare: Vec<&str> = bare.collect();
        std::fs::write(&path, bare.join("\n").replace("64 hex digits", HEX)).unwrap();
        let hook = dir.path().join("manifests/hooks/check-disk.sh");
        std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
        std::fs::write(&hook, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(
            visor(&["plan", "check", "--deny", "warnings"]),
            (Some(0), "1 file checked, nothing found\n".into())
        );
        assert!(bare.join("\n").contains("\n[upgrade."));
    }
}

#[test]
fn edits_mend_what_has_one_cure_and_keep_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.toml");
    let bad = format!(
        "# kept\n[node.a]\nbinry   = \"geth\" # kept too\nhome = \"/a\"\ndata = {{ path = \"data\" }}\nchain = {{ kind = \"evmm\", rpc = \"http://127.0.0.1:1\" }}\n[artifact.g]\n[[artifact.g.file]]\nurls = [\"https://x.example/g\"]\nsha256 = \"{HEX}\"\n[upgrade.v2.0.1]\ntrigger = {{ height = \"500\" }}\nartifact = \"g\"\n"
    );
    std::fs::write(&path, &bad).unwrap();
    let visor = |args: &[&str]| {
        let out = std::process::Command::new(env!("CARGO_BIN_EXE_visor"))
            .args(args)
            .arg(dir.path())
            .output()
            .unwrap();
        out.status.code()
    };
    assert_eq!(visor(&["plan", "check"]), Some(1));
    assert_eq!(visor(&["plan", "check", "--fix"]), Some(0));
    let want = bad
        .replacen("# kept\n", "# kept\nvisor = 1\n", 1)
        .replace("binry", "binary")
        .replace("evmm", "evm")
        .replace("[upgrade.v2.0.1]", "[upgrade.\"v2.0.1\"]")
        .replace("\"500\"", "500");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), want);
    assert_eq!(visor(&["plan", "check", "--deny", "V9999"]), Some(64));
}

#[test]
fn habits_of_other_formats_are_mended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("habits.toml");
    std::fs::copy(repo().join("tests/invalid/habits.toml"), &path).unwrap();
    let check = |args: &[&str]| {
        let out = std::process::Command::new(env!("CARGO_BIN_EXE_visor"))
            .args(["plan", "check", "--format", "json"])
            .args(args)
            .arg(dir.path())
            .output()
            .unwrap();
        let value: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        let of = |f: &serde_json::Value| f["code"].as_str().unwrap().to_owned();
        let mut codes: Vec<String> = value["findings"]
            .as_array()
            .unwrap()
            .iter()
            .map(of)
            .collect();
        codes.sort();
        codes.dedup();
        codes
    };
    let before = check(&[]);
    let after = check(&["--fix"]);
    // Names, kinds, types and digests have one cure; what a person has to decide stays.
    for code in ["V0003", "V0105", "V0207", "V0221"] {
        assert!(
            before.contains(&code.to_owned()) && !after.contains(&code.to_owned()),
            "{code}: {after:?}"
        );
    }
    for code in ["V0106", "V0203", "V0208", "V0213"] {
        assert!(after.contains(&code.to_owned()), "{code}: {after:?}");
    }
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(
        text.starts_with("#:schema ./manifest.v1.json\nvisor = 1\n"),
        "{text}"
    );
    // A second time there is nothing left to do.
    let _ = check(&["--fix"]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn paths_for_programs_are_those_of_the_repository() {
    let repo = tempfile::tempdir().unwrap();
    let set = repo.path().join("infra/manifests");
    std::fs::create_dir_all(&set).unwrap();
    std::fs::write(set.join("a.toml"), "visor = 1\n[nodes.a]\nbinary = 5\n").unwrap();
    let run = |dir: &str, workspace: bool, args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_visor"));
        command
            .current_dir(repo.path().join(dir))
            .args(["plan", "check"])
            .args(args);
        command.env_remove("GITHUB_WORKSPACE");
        if workspace {
            command.env("GITHUB_WORKSPACE", repo.path());
        }
        let out = command.output().unwrap();
        assert_eq!(out.status.code(), Some(1));
        String::from_utf8(out.stdout).unwrap()
    };
    for (dir, workspace, named) in [
        (".", false, "infra/manifests"),
        (".", false, "./infra/manifests/"),
        ("infra", true, "manifests"),
        ("infra/manifests", true, "."),
    ] {
        let github = run(dir, workspace, &["--format", "github", named]);
        assert!(
            github.contains("file=infra/manifests/a.toml,"),
            "{named}: {github}"
        );
        let sarif = run(dir, workspace, &["--format", "sarif", named]);
        let log: serde_json::Value = serde_json::from_str(&sarif).unwrap();
        let at = &log["runs"][0]["results"][0]["locations"][0]["physicalLocation"];
        assert_eq!(at["artifactLocation"]["uri"], "infra/manifests/a.toml");
    }
    let human = run("infra", false, &["manifests"]);
    assert!(human.contains("--> manifests/a.toml:2:2"), "{human}");
    // Outside of any repository the whole path is said.
    std::fs::create_dir(repo.path().join("elsewhere")).unwrap();
    let absolute = set.display().to_string();
    let sarif = run("elsewhere", false, &["--format", "sarif", &absolute]);
    assert!(
        sarif.contains(&format!("file://{absolute}/a.toml")),
        "{sarif}"
    );
    let json = run(".", false, &["--format", "json", "infra/manifests"]);
    assert!(json.contains("\"file\": \"a.toml\""), "{json}");
}

/// Whatever visor keeps in its root, the data may not be in it.
#[test]
fn data_may_not_lie_among_what_visor_keeps() {
    let root = std::path::Path::new("/h/visor");
    let layout = visor::store::Layout::new(root);
    let genesis = root.join(visor::model::Release::Genesis.dir());
    let upgrade = visor::model::Release::Upgrade("v2".parse().unwrap());
    let kept = [
        layout.state(),
        layout.current(),
        layout.generations(),
        layout.failed(),
        layout.cache(),
        layout.log(),
        genesis,
        root.join(upgrade.dir()),
    ];
    for path in kept {
        let own = path.strip_prefix("/h").unwrap();
        let first: std::path::PathBuf = own.components().take(2).collect();
        let text = format!(
            "visor = 1\n[node.n]\nbinary = \"b\"\nhome = \"/h\"\ndata = {{ path = \"{}\" }}\nchain = {{ kind = \"evm\", rpc = \"http://127.0.0.1:1\" }}\n",
            first.display()
        );
        let found = check(&set(&[("a.toml", &text)])).findings;
        let codes: Vec<Code> = found.iter().map(|f| f.code).collect();
        assert_eq!(codes, [Code::BadPath], "{}", first.display());
    }
}
