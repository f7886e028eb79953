use std::path::PathBuf;

use super::*;

const OPTIONS: Options = Options { map_bytes: 1 << 20, max_readers: 8, reads_only: false };

/// A directory that is removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tokenweir-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn put(environment: &Environment, keys: &[&str]) {
    environment.write(keys.iter().map(|key| (key.as_bytes(), Some(b"value".as_slice())))).unwrap();
}

fn names(found: (Option<Entry>, Option<Entry>)) -> (Option<String>, Option<String>) {
    let name = |entry: Option<Entry>| entry.map(|(key, _)| String::from_utf8(key).unwrap());
    (name(found.0), name(found.1))
}

#[test]
fn a_view_stands_still_and_has_neighbours() {
    let directory = Directory::new("views");
    let environment = Environment::open(&directory.0, OPTIONS).unwrap();
    let empty = environment.read().unwrap();
    put(&environment, &["b", "d"]);
    assert_eq!(empty.get(b"b"), Ok(None));
    assert_eq!(empty.neighbours(b"b"), Ok((None, None)));
    let view = environment.read().unwrap();
    environment.write([(b"b".as_slice(), None)]).unwrap();
    assert_eq!(view.get(b"b"), Ok(Some(b"value".to_vec())));
    let about = |key: &str| names(view.neighbours(key.as_bytes()).unwrap());
    assert_eq!(about("a"), (None, Some("b".into())));
    assert_eq!(about("c"), (Some("b".into()), Some("d".into())));
    assert_eq!(about("d"), (Some("b".into()), Some("d".into())));
    assert_eq!(about("e"), (Some("d".into()), None));
    let keys = |from: &str, count| {
        let found = view.entries_after(from.as_bytes(), count).unwrap();
        found.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!((keys("", 1), keys("b", 9), keys("d", 9)), (vec![b"b".to_vec()], vec![b"d".to_vec()], vec![]));
}

#[test]
fn what_is_closed_says_so_and_can_be_opened_again() {
    let directory = Directory::new("closing");
    let environment = Environment::open(&directory.0, OPTIONS).unwrap();
    assert_eq!(Environment::open(&directory.0, OPTIONS).err(), Some(Fault::Lmdb("EnvAlreadyOpened")));
    put(&environment, &["a"]);
    let (kept, closed) = (environment.read().unwrap(), environment.read().unwrap());
    closed.close().unwrap();
    assert_eq!(closed.get(b"a"), Err(Fault::Closed));
    environment.close().unwrap();
    environment.close().unwrap();
    assert_eq!(kept.get(b"a"), Err(Fault::Closed));
    assert_eq!(environment.read().err(), Some(Fault::Closed));
    assert_eq!((environment.sync(), environment.reader_check()), (Err(Fault::Closed), Err(Fault::Closed)));
    let again = Environment::open(&directory.0, Options { reads_only: true, ..OPTIONS }).unwrap();
    assert_eq!(again.read().unwrap().get(b"a"), Ok(Some(b"value".to_vec())));
    assert!(again.write([(b"a".as_slice(), None)]).is_err());
}

#[test]
fn a_write_is_done_as_a_whole_or_not_at_all() {
    let directory = Directory::new("writing");
    let environment = Environment::open(&directory.0, OPTIONS).unwrap();
    let too_long = [b'k'; 512];
    let changes = [(b"a".as_slice(), Some(b"value".as_slice())), (&too_long, Some(b"value"))];
    assert_eq!(environment.write(changes), Err(Fault::Lmdb("BadValSize")));
    assert_eq!(environment.read().unwrap().get(b"a"), Ok(None));
}

#[test]
fn a_view_is_for_one_thread_at_a_time() {
    let directory = Directory::new("threads");
    let environment = Environment::open(&directory.0, OPTIONS).unwrap();
    let view = environment.read().unwrap();
    let other = view.clone();
    let busy = view.with(|_, _| Ok((other.get(b"a"), environment.close(), other.close())));
    assert_eq!(busy, Ok((Err(Fault::Busy), Err(Fault::Busy), Err(Fault::Busy))));
    assert_eq!(view.get(b"a"), Ok(None));
}

#[test]
fn no_files_or_foreign_ones_are_told_apart() {
    let directory = Directory::new("files");
    let reading = Options { reads_only: true, ..OPTIONS };
    assert!(Environment::open(&directory.0.join("nowhere"), reading).is_err_and(|fault| !fault.is_damage()));
    assert!(Environment::open(&directory.0, reading).is_err_and(|fault| !fault.is_damage()));
    std::fs::write(directory.0.join("data.mdb"), b"x").unwrap();
    assert!(Environment::open(&directory.0, OPTIONS).is_err_and(Fault::is_damage));
}
