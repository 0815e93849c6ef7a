//! Names of files that have several, of which a copy holds at least one already.

use super::tree::{Entry, Ident, Map, Tree};
use std::path::PathBuf;

/// By device and inode, with what is known of each name. After a cut some of them are older than others.
#[derive(Debug, Default)]
pub(super) struct Linked(Map<(u64, u64), Vec<(PathBuf, Entry)>>);

impl Linked {
    /// Those of a copy whose contents need not be copied again.
    pub(super) fn of(entries: &Tree) -> Self {
        let mut all: Map<_, Vec<_>> = Map::default();
        for (path, entry) in entries.iter().filter(|(_, e)| e.linked && !e.hot) {
            let id = (entry.ident.dev, entry.ident.ino);
            all.entry(id).or_default().push((path, *entry));
        }
        Self(all)
    }

    /// Names that were copied when the file was as it is now.
    pub(super) fn names(&self, now: &Ident) -> impl Iterator<Item = &(PathBuf, Entry)> {
        let all = self.0.get(&(now.dev, now.ino)).into_iter().flatten();
        let now = *now;
        all.filter(move |(_, entry)| entry.ident == now)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::tree::{Class, Kind};
    use std::path::Path;

    #[test]
    fn a_name_of_now_is_found_among_older_ones() {
        let entry = |ctime, hot| Entry {
            kind: Kind::File,
            class: Class::Mutable,
            ident: Ident {
                dev: 1,
                ino: 2,
                size: 3,
                mtime: 4,
                ctime,
                mode: 6,
                uid: 7,
                gid: 8,
            },
            hot,
            linked: true,
        };
        let mut tree = Tree::default();
        for n in 0..8 {
            tree.insert(Path::new(&format!("old{n}")), entry(5, false));
        }
        tree.insert(Path::new("now"), entry(6, false));
        tree.insert(Path::new("hot"), entry(6, true));
        let linked = Linked::of(&tree);
        let names: Vec<&PathBuf> = linked
            .names(&entry(6, false).ident)
            .map(|(p, _)| p)
            .collect();
        assert_eq!(names, [Path::new("now")]);
        assert_eq!(linked.names(&entry(7, false).ident).count(), 0);
    }
}
