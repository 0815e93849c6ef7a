//! Directories on another disk that links in the data lead to: copied there, put back there, and what is refused.

use crate::disks::{Disk, disk, run, subvolumes};
use crate::restores::sealed;
use crate::work::{Work, assert_pictures, new_id, picture, plain_tar};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use visor::backup::{
    Watch, carry_keep, consume, exchange, export, is_aside, remove, restore, set_aside, verify,
};
use visor::model::GenId;

const MIB: u64 = 1 << 20;

/// Data with `chain/ancient` on another disk, and below that a link on to a third directory.
struct Linked {
    work: Work,
    ancient: PathBuf,
    deep: PathBuf,
    _place: tempfile::TempDir,
    _disk: Disk,
}

fn linked(name: &'static str) -> Option<Linked> {
    let disk = disk(name, &std::env::temp_dir(), 400 * MIB)?;
    let place = tempfile::tempdir().unwrap();
    let work = Work::new(place.path());
    let (ancient, deep) = (disk.dir.join("old/ancient"), disk.dir.join("deep"));
    fs::create_dir_all(&ancient).unwrap();
    fs::create_dir_all(&deep).unwrap();
    fs::create_dir_all(work.at("chain")).unwrap();
    symlink(&ancient, work.at("chain/ancient")).unwrap();
    symlink("../../deep", ancient.join("deep")).unwrap();
    for path in [
        "chain/1.ldb",
        "chain/head",
        "chain/ancient/0001.ldb",
        "chain/ancient/index.log",
        "chain/ancient/meta",
        "chain/ancient/sub/x",
        "chain/ancient/deep/y",
        "chain/ancient/LOCK",
    ] {
        work.write(path, path.as_bytes());
    }
    fs::hard_link(ancient.join("meta"), ancient.join("meta.again")).unwrap();
    // What is in a second root is in the data, by whatever link.
    symlink(ancient.join("meta"), work.at("a link to meta")).unwrap();
    Some(Linked {
        work,
        ancient,
        deep,
        _place: place,
        _disk: disk,
    })
}

impl Linked {
    fn change(&self, what: &str) {
        self.work.write("chain/head", what.as_bytes());
        self.work.write("chain/ancient/meta", what.as_bytes());
        self.work
            .write(&format!("chain/ancient/{what}.ldb"), b"new");
        self.work.write("chain/ancient/deep/y", what.as_bytes());
    }

    /// Copied, changed meanwhile, and sealed.
    fn sealed(&self, before: Option<GenId>) -> GenId {
        self.work.write("chain/ancient/sub/x", b"goes");
        let rounds = self.work.begin(new_id(), before);
        let generation = rounds.generation;
        self.change("meanwhile");
        fs::remove_file(self.work.at("chain/ancient/sub/x")).unwrap();
        let _ = self.work.seal(rounds);
        generation
    }

    /// Where the copies lie.
    fn places(&self) -> [PathBuf; 2] {
        [&self.ancient, &self.deep].map(|dir| {
            let name = format!(".visor-{}", dir.file_name().unwrap().to_str().unwrap());
            dir.with_file_name(name)
        })
    }

    fn is_restored(&self, was: &std::collections::BTreeMap<PathBuf, String>) {
        let now = picture(&self.work.data.path);
        assert_pictures(&now, was, "restored");
        assert_eq!(
            fs::read_link(self.work.at("chain/ancient")).unwrap(),
            self.ancient
        );
        assert_eq!(
            fs::read_link(self.ancient.join("deep")).unwrap(),
            Path::new("../../deep")
        );
    }
}

fn proved(work: &Work, generation: GenId) -> u64 {
    let watch = Watch {
        pace: &|_| Ok(()),
        progress: &|_, _| {},
    };
    let verdict = verify(&work.paths(generation), true, &watch).unwrap();
    assert_eq!(verdict.bad, Vec::<String>::new());
    verdict.proved
}

#[test]
fn what_links_lead_to_is_copied_on_its_disk_and_put_back() {
    for name in ["own", "ext4", "tmpfs", "xfs"] {
        let Some(linked) = linked(name) else { continue };
        let work = &linked.work;
        let generation = linked.sealed(None);
        let paths = work.paths(generation);
        let was = picture(&work.data.path);
        assert_pictures(&picture(&work.sealed(generation)), &was, name);
        let of_ancient = fs::canonicalize(work.sealed(generation).join("chain/ancient")).unwrap();
        assert!(
            of_ancient.starts_with(&linked.places()[0]),
            "{of_ancient:?}"
        );
        let dev = |path: &Path| fs::metadata(path).unwrap().dev();
        assert_eq!(dev(&of_ancient), dev(&linked.ancient));
        let all = 8;
        match name {
            // Its stamps prove nothing.
            "tmpfs" => assert_eq!(proved(work, generation), 2),
            _ => assert_eq!(proved(work, generation), all),
        }
        if name == "ext4" {
            let linked_names = fs::metadata(linked.ancient.join("0001.ldb"))
                .unwrap()
                .nlink();
            assert_eq!(
                linked_names, 2,
                "what never changes gets a second name there"
            );
        }
        linked.change("later");
        let later = picture(&work.data.path);
        restore(&paths, &work.data).unwrap();
        linked.is_restored(&was);
        assert_pictures(&picture(&paths.aside.join("tree")), &later, "set aside");
        // The next one, made of these, and both removed.
        let next = linked.sealed(None);
        remove(&work.layout, &work.paths(next).done).unwrap();
        remove(&work.layout, &paths.aside).unwrap();
        for place in linked.places() {
            assert!(!place.exists(), "{}", place.display());
        }
        assert!(linked.ancient.join("meta").is_file());
    }
}

#[test]
fn the_same_step_twice_does_nothing_the_second_time() {
    let linked = linked("own").unwrap();
    let work = &linked.work;
    let generation = linked.sealed(None);
    let paths = work.paths(generation);
    let was = picture(&work.data.path);
    linked.change("later");
    let later = picture(&work.data.path);
    consume(&paths, &work.data).unwrap();
    carry_keep(&paths, &work.data, None).unwrap();
    exchange(&paths, &work.data).unwrap();
    linked.is_restored(&was);
    // The engine finds by the data's own inode that the exchange is done; what comes before it may come again.
    carry_keep(&paths, &work.data, None).unwrap();
    set_aside(&paths).unwrap();
    assert!(is_aside(&paths));
    linked.is_restored(&was);
    assert_pictures(&picture(&paths.aside.join("tree")), &later, "set aside");
}

#[test]
fn a_disk_that_is_not_there_refuses_the_way_back_before_anything_is_used_up() {
    let linked = linked("own").unwrap();
    let work = &linked.work;
    let generation = linked.sealed(None);
    let paths = work.paths(generation);
    let place = &linked.places()[0];
    let hidden = place.with_file_name("hidden");
    fs::rename(place, &hidden).unwrap();
    let why = restore(&paths, &work.data).unwrap_err().to_string();
    assert!(why.contains("is its disk mounted?"), "{why}");
    assert!(paths.done.join("SEAL").is_file());
    fs::rename(&hidden, place).unwrap();
    restore(&paths, &work.data).unwrap();
}

#[test]
fn an_archive_holds_all_and_goes_back_to_both_disks() {
    let Some(linked) = linked("ext4") else { return };
    let work = &linked.work;
    let generation = linked.sealed(None);
    let was = picture(&work.data.path);
    let file = work.layout.root.join("copy.tar");
    let how = plain_tar();
    export(&work.paths(generation), &file, &how, &|_| Ok(())).unwrap();
    // Any tar makes whole data of it, in one directory.
    let plain = work.layout.root.join("plain");
    fs::create_dir(&plain).unwrap();
    let (from, to) = (file.to_str().unwrap(), plain.to_str().unwrap());
    assert!(run("tar", &["-xf", from, "-C", to]));
    for path in ["chain/ancient/meta", "chain/ancient/deep/y"] {
        assert_eq!(
            fs::read(plain.join(path)).unwrap(),
            fs::read(work.at(path)).unwrap()
        );
        let above = plain.join(path).parent().unwrap().to_owned();
        assert!(fs::symlink_metadata(above).unwrap().is_dir());
    }
    let taken = work.import(&file).unwrap();
    assert_pictures(&picture(&work.sealed(taken)), &was, "from the archive");
    let of_ancient = fs::canonicalize(work.sealed(taken).join("chain/ancient")).unwrap();
    assert!(
        of_ancient.starts_with(&linked.places()[0]),
        "{of_ancient:?}"
    );
    linked.change("later");
    restore(&work.paths(taken), &work.data).unwrap();
    linked.is_restored(&was);
    // One that has nothing of them says that the data have none.
    let of_others = work.layout.root.join("others.tar");
    assert!(run(
        "tar",
        &["-cf", of_others.to_str().unwrap(), "-C", to, "chain/head"]
    ));
    let taken = work.import(&of_others).unwrap();
    assert!(fs::symlink_metadata(work.sealed(taken).join("chain/ancient")).is_err());
    let place = linked.places()[0].join(taken.to_string());
    assert!(!place.exists());
    // Names of one file that are on two disks by now.
    fs::hard_link(plain.join("chain/head"), plain.join("chain/ancient/same")).unwrap();
    fs::remove_file(&of_others).unwrap();
    assert!(run(
        "tar",
        &["-cf", of_others.to_str().unwrap(), "-C", to, "chain"]
    ));
    let tree = work.sealed(work.import(&of_others).unwrap());
    let read = |path| fs::read(tree.join(path)).unwrap();
    assert_eq!(read("chain/ancient/same"), read("chain/head"));
    // A file where the data have a directory is refused.
    fs::remove_dir_all(plain.join("chain/ancient")).unwrap();
    fs::write(plain.join("chain/ancient"), "x").unwrap();
    assert!(run(
        "tar",
        &["-cf", of_others.to_str().unwrap(), "-C", to, "chain"]
    ));
    let why = work.import(&of_others);
    let why = why.unwrap_err().to_string();
    assert!(
        why.contains("chain/ancient: the data have a directory there"),
        "{why}"
    );
}

#[test]
fn what_cannot_be_exchanged_is_refused_with_its_reason() {
    let place = tempfile::tempdir().unwrap();
    let work = Work::new(&place.path().join("node"));
    work.write("file", b"x");
    let link = work.at("ancient");
    let refused = |to: &Path, why: &str| {
        symlink(to, &link).unwrap();
        let said = work.refusal();
        fs::remove_file(&link).unwrap();
        assert!(
            said.contains("ancient leads out of the data directory, to "),
            "{said}"
        );
        assert!(
            said.contains(why) && said.contains("exclude the link or keep it"),
            "{said}"
        );
    };
    refused(Path::new("/usr/lib"), "the system's");
    let other = place.path().join("another's");
    fs::create_dir(&other).unwrap();
    if std::os::unix::fs::chown(&other, Some(4711), None).is_ok() {
        refused(&other, "another user's");
    }
    let other = place.path().join("a file");
    fs::write(&other, "x").unwrap();
    refused(&other, "no directory");
    refused(place.path(), "the data lie in it");
    refused(&work.layout.root, "the copies would lie in it");
    if let Some(disk) = disk("tmpfs", place.path(), MIB) {
        refused(&disk.dir, "a mount point");
    }
    if let Some(disk) = subvolumes() {
        let other = disk.dir.join("other");
        disk.make_data(&other);
        refused(&other, "a btrfs subvolume");
    }
    // What leads nowhere is a link and no more.
    symlink("/nowhere/at/all", &link).unwrap();
    let generation = new_id();
    let _ = work.seal(work.begin(generation, None));
    let copied = fs::read_link(work.sealed(generation).join("ancient")).unwrap();
    assert_eq!(copied, Path::new("/nowhere/at/all"));
}

#[test]
fn a_link_that_comes_or_changes_under_way_is_refused() {
    let linked = linked("own").unwrap();
    let work = &linked.work;
    let other = linked.deep.with_file_name("other");
    fs::create_dir(&other).unwrap();
    fs::remove_file(work.at("a link to meta")).unwrap();
    let link = work.at("chain/ancient");
    let at_the_end = |change: &dyn Fn(), why: &str| {
        let mut rounds = work.begin(new_id(), None);
        change();
        let said = rounds.end(&|| false).unwrap_err().to_string();
        assert!(said.contains(why), "{said}");
    };
    let point = |to: &Path| {
        fs::remove_file(&link).unwrap();
        symlink(to, &link).unwrap();
    };
    at_the_end(&|| point(&other), "does not lead to");
    point(&linked.ancient);
    at_the_end(&|| fs::remove_file(&link).unwrap(), "does not lead to");
    symlink(&linked.ancient, &link).unwrap();
    // Not even what is in it may come in its place, or a link in that of the directory above.
    at_the_end(
        &|| {
            fs::remove_file(&link).unwrap();
            fs::create_dir(&link).unwrap();
            fs::write(link.join("meta"), "here now").unwrap();
        },
        "does not lead to",
    );
    fs::remove_dir_all(&link).unwrap();
    symlink(&linked.ancient, &link).unwrap();
    let (chain, moved) = (work.at("chain"), work.at("moved"));
    at_the_end(
        &|| {
            fs::rename(&chain, &moved).unwrap();
            symlink("moved", &chain).unwrap();
        },
        "does not lead to",
    );
    fs::remove_file(&chain).unwrap();
    fs::rename(&moved, &chain).unwrap();
    at_the_end(
        &|| symlink(&other, work.at("new")).unwrap(),
        "did not when the copy was begun",
    );
    fs::remove_file(work.at("new")).unwrap();
    // Made again with the same text it is the same.
    let rounds = work.begin(new_id(), None);
    point(&linked.ancient);
    let generation = rounds.generation;
    let _ = work.seal(rounds);
    let was = picture(&work.data.path);
    assert_pictures(&picture(&work.sealed(generation)), &was, "the same link");
}

/// A later visor finds what is there, and the copy of before saves it work on its own disk.
#[test]
fn a_part_is_gone_on_with_on_both_disks() {
    let Some(mut linked) = linked("ext4") else {
        return;
    };
    linked.work.backup.method = Some(visor::model::Method::Copy);
    let before = linked.sealed(None);
    let work = &linked.work;
    let generation = new_id();
    drop(work.begin(generation, Some(before)));
    let table = "chain/ancient/0001.ldb";
    let inode = |generation| {
        let path = work.sealed(generation).join(table);
        fs::metadata(path).map(|m| m.ino()).ok()
    };
    linked.change("while nobody looked");
    let _ = work.seal(work.begin(generation, Some(before)));
    assert_eq!(
        inode(generation),
        inode(before),
        "a second name of the copy"
    );
    let live = fs::metadata(work.at(table)).unwrap().ino();
    assert_ne!(
        inode(generation),
        Some(live),
        "no better way than was asked for"
    );
    let was = picture(&work.data.path);
    assert_pictures(&picture(&work.sealed(generation)), &was, "gone on with");
    let part = new_id();
    drop(work.begin(part, None));
    assert!(linked.places()[0].join(part.to_string()).is_dir());
    visor::backup::discard(&work.layout, part).unwrap();
    assert!(!linked.places()[0].join(part.to_string()).exists());
}

/// Signer state is carried over as it is now, wherever it lies and whatever is remembered of directories.
#[test]
fn what_is_kept_on_another_disk_is_carried_over() {
    for remembers in [true, false] {
        let mut linked = linked("own").unwrap();
        linked.work.data.keep = vec!["**/signer.json".into(), "**/keystore".into()];
        let work = &linked.work;
        let secrets = linked.deep.with_file_name("secrets");
        fs::create_dir(&secrets).unwrap();
        // What is kept may lead where it likes.
        symlink(&secrets, work.at("chain/keystore")).unwrap();
        for path in [
            "signer.json",
            "chain/ancient/signer.json",
            "chain/ancient/deep/signer.json",
        ] {
            work.write(path, b"before");
        }
        let (generation, remembered) = sealed(work);
        let paths = work.paths(generation);
        let remembered = remembered.filter(|_| remembers);
        for path in [
            "signer.json",
            "chain/ancient/signer.json",
            "chain/ancient/deep/signer.json",
        ] {
            work.write(path, b"now");
        }
        work.write("chain/ancient/meta", b"now");
        consume(&paths, &work.data).unwrap();
        carry_keep(&paths, &work.data, remembered.as_ref()).unwrap();
        exchange(&paths, &work.data).unwrap();
        for path in [
            "signer.json",
            "chain/ancient/signer.json",
            "chain/ancient/deep/signer.json",
        ] {
            assert_eq!(fs::read_to_string(work.at(path)).unwrap(), "now", "{path}");
        }
        assert_ne!(
            fs::read_to_string(work.at("chain/ancient/meta")).unwrap(),
            "now"
        );
        assert_eq!(fs::read_link(work.at("chain/keystore")).unwrap(), secrets);
    }
}

#[test]
fn a_link_that_leads_elsewhere_by_now_refuses_the_way_back_before_anything_is_used_up() {
    let linked = linked("own").unwrap();
    let work = &linked.work;
    let paths = work.paths(linked.sealed(None));
    let link = work.at("chain/ancient");
    let other = linked.deep.with_file_name("other");
    fs::create_dir(&other).unwrap();
    fs::remove_file(&link).unwrap();
    symlink(&other, &link).unwrap();
    for why in [
        restore(&paths, &work.data).unwrap_err().to_string(),
        consume(&paths, &work.data).unwrap_err().to_string(),
    ] {
        assert!(why.contains("have it lead there again"), "{why}");
    }
    assert!(paths.done.join("SEAL").is_file());
}

#[test]
fn what_is_removed_is_removed_on_its_disk_and_nothing_else_is() {
    let linked = linked("own").unwrap();
    let work = &linked.work;
    // On a disk that is not there at the moment.
    let paths = work.paths(linked.sealed(None));
    let disk = linked.ancient.parent().unwrap();
    let away = disk.with_file_name("away");
    fs::rename(disk, &away).unwrap();
    let why = remove(&work.layout, &paths.done).unwrap_err().to_string();
    assert!(why.contains("is its disk mounted?"), "{why}");
    fs::rename(&away, disk).unwrap();
    let place = &linked.places()[0];
    assert!(place.join(paths.generation.to_string()).is_dir());
    // The next removal of anything looks again.
    let next = work.paths(linked.sealed(None));
    remove(&work.layout, &next.done).unwrap();
    assert!(!place.exists());
    // Somebody takes data that were set aside, with what their links lead to.
    let paths = work.paths(linked.sealed(None));
    linked.change("wanted");
    restore(&paths, &work.data).unwrap();
    let taken = work.layout.root.join("taken");
    fs::rename(paths.aside.join("tree"), &taken).unwrap();
    remove(&work.layout, &paths.aside).unwrap();
    let meta = fs::read_to_string(taken.join("chain/ancient/meta")).unwrap();
    assert_eq!(meta, "wanted");
}

#[test]
fn what_all_second_roots_of_a_disk_need_is_reckoned_together() {
    let Some(mut linked) = linked("tmpfs") else {
        return;
    };
    for path in ["chain/ancient/large", "chain/ancient/deep/large"] {
        linked.work.write(path, &vec![1; 3 << 20]);
    }
    linked.work.backup.method = Some(visor::model::Method::Copy);
    let stat = rustix::fs::statvfs(&linked.ancient).unwrap();
    // Room for each of them, and not for both.
    linked.work.backup.reserve = stat.f_bavail * stat.f_frsize - (4 << 20);
    let why = linked.work.refusal();
    assert!(
        why.contains("not enough space in") && why.contains("/.visor-"),
        "{why}"
    );
}
