use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
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
    let busy = view.with(|_| Ok((other.get(b"a"), environment.close(), other.close())));
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

/// A number that looks random and is the same in every run.
fn scrambled(number: u64) -> u64 {
    (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

#[test]
fn the_way_to_a_key_is_sound_however_the_store_was_made() {
    let directory = Directory::new("ways");
    let environment = Environment::open(&directory.0, Options { map_bytes: 1 << 26, ..OPTIONS }).unwrap();
    let key_of = |number: u64| [scrambled(number % 8_000).to_be_bytes(), number.to_be_bytes().map(|_| 7)].concat();
    let mut known = std::collections::BTreeSet::new();
    for round in 0..40_u64 {
        let mut changes = std::collections::BTreeMap::new();
        for step in 0..400 {
            let dice = scrambled(round * 1_000 + step);
            let removes = dice % 100 < if round % 10 < 7 { 20 } else { 90 };
            // Some values are too long for a page, and some keys are of another size.
            let key =
                if dice.is_multiple_of(97) { vec![b'k'; (dice >> 32) as usize % 400 + 1] } else { key_of(dice >> 20) };
            let value = vec![b'v'; if dice.is_multiple_of(89) { 5_000 } else { (dice >> 40) as usize % 90 }];
            changes.insert(key, (!removes).then_some(value));
        }
        for (key, value) in &changes {
            if value.is_some() {
                known.insert(key.clone())
            } else {
                known.remove(key)
            };
        }
        environment.write(changes.iter().map(|(key, value)| (key.as_slice(), value.as_deref()))).unwrap();
        let view = environment.read().unwrap();
        for number in 0..1_000 {
            let key = key_of(scrambled(round * 1_000 + number));
            let after = view.neighbours(&key).unwrap().1.map(|(found, _)| found);
            assert_eq!(after.as_ref(), known.range(key..).next());
        }
    }
}

#[test]
fn a_branch_that_names_another_page_is_found_on_every_level() {
    const PAGE_BYTES: usize = 4096;
    let directory = Directory::new("branches");
    let environment = Environment::open(&directory.0, Options { map_bytes: 1 << 26, ..OPTIONS }).unwrap();
    let value = [b'v'; 200];
    let keys: Vec<[u8; 8]> = (0..30_000).map(|number| scrambled(number).to_be_bytes()).collect();
    environment.write(keys.iter().map(|key| (key.as_slice(), Some(value.as_slice())))).unwrap();
    if environment.read().unwrap().reading.lock().unwrap().as_ref().unwrap().tree.page_bytes != PAGE_BYTES {
        return;
    }
    let path = directory.0.join("data.mdb");
    let data = std::fs::read(&path).unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let u16_at = |at: usize| u16::from_le_bytes([data[at], data[at + 1]]);
    let u64_at = |at: usize| u64::from_le_bytes(data[at..at + 8].try_into().unwrap());
    let newest = [0, PAGE_BYTES].into_iter().max_by_key(|meta| u64_at(meta + 144)).unwrap();
    let branches_of = |page: usize| -> Vec<usize> {
        let places = (page + 16..page + usize::from(u16_at(page + 12))).step_by(2);
        places.map(|at| page + usize::from(u16_at(at))).collect()
    };
    let child_of = |node: usize| usize::from(u16_at(node)) * PAGE_BYTES;
    let root = usize::try_from(u64_at(newest + 128)).unwrap() * PAGE_BYTES;
    let top = branches_of(root);
    assert!(top.len() > 2 && top.iter().all(|node| u16_at(child_of(*node) + 10) == 1), "the store has three levels");
    let lower = branches_of(child_of(top[1]));
    for nodes in [&top, &lower[..8].to_vec()] {
        for (right, wrong) in nodes.iter().zip(nodes.iter().cycle().skip(1)) {
            // The first key of a page of branches is not there, and the next one ends what the page is asked for.
            let Some(next) = nodes.get(nodes.iter().position(|node| node == right).unwrap() + 1) else { continue };
            let mut absent = data[next + 8..next + 16].to_vec();
            for byte in absent.iter_mut().rev() {
                *byte = byte.wrapping_sub(1);
                if *byte != u8::MAX {
                    break;
                }
            }
            let about = || environment.read()?.neighbours(&absent);
            assert!(about().is_ok());
            file.write_all_at(&data[*wrong..*wrong + 2], *right as u64).unwrap();
            assert!(about().is_err_and(Fault::is_damage));
            file.write_all_at(&data[*right..*right + 2], *right as u64).unwrap();
            assert!(about().is_ok());
        }
    }
}
