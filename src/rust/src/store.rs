//! The consent store in LMDB: its environment, and views of it. What lies in it is told in `tokenweir.adapters`.
//!
//! A page that was damaged may end the process in LMDB, here as everywhere; nothing else that stands in the file can.

mod entry;
mod lookups;
mod pages;
mod seal;
#[cfg(test)]
mod tests;
mod tree;

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError, Weak};

use heed::types::Bytes;
use heed::{Database, Env, EnvFlags, EnvOpenOptions, MdbError, RoTxn, WithoutTls};

pub use lookups::Lookups;
use pages::Pages;
pub use seal::Seal;
use tree::Tree;

/// Why the store cannot be used. No variant has anything of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What stands in it was not written like this.
    Corrupt(&'static str),
    /// LMDB found it damaged, and calls that so.
    LmdbDamage(&'static str),
    /// LMDB cannot use it, and calls that so.
    Lmdb(&'static str),
    /// The system does not let LMDB use it, and has this number for that.
    System(i32),
    /// It was closed before.
    Closed,
    /// Another thread is using it.
    Busy,
    /// The keys do not have the size that they must have.
    Keys,
}

/// The result of everything that is done with the store.
pub type Result<T> = std::result::Result<T, Fault>;

impl Fault {
    /// Whether it means that the store must be made anew.
    #[must_use]
    pub const fn is_damage(self) -> bool {
        matches!(self, Self::Corrupt(_) | Self::LmdbDamage(_))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Corrupt(text) => out.write_str(text),
            Self::LmdbDamage(name) => write!(out, "LMDB finds the consent store damaged ({name})"),
            Self::Lmdb(name) => write!(out, "LMDB cannot use the consent store ({name})"),
            Self::System(number) => write!(out, "LMDB cannot use the consent store (error {number} of the system)"),
            Self::Closed => out.write_str("the consent store is not open, or what was read of it is closed"),
            Self::Busy => out.write_str("the consent store is in use by another thread"),
            Self::Keys => out.write_str("the keys of the consent store are too short"),
        }
    }
}

impl std::error::Error for Fault {}

impl From<heed::Error> for Fault {
    fn from(error: heed::Error) -> Self {
        match error {
            heed::Error::Mdb(error) => error.into(),
            heed::Error::Io(error) => Self::System(error.raw_os_error().unwrap_or_default()),
            heed::Error::EnvAlreadyOpened => Self::Lmdb("EnvAlreadyOpened"),
            heed::Error::Encoding(_) => Self::Lmdb("Encoding"),
            heed::Error::Decoding(_) => Self::Lmdb("Decoding"),
        }
    }
}

impl From<MdbError> for Fault {
    fn from(error: MdbError) -> Self {
        match error {
            MdbError::PageNotFound => Self::LmdbDamage("PageNotFound"),
            MdbError::Corrupted => Self::LmdbDamage("Corrupted"),
            MdbError::Panic => Self::LmdbDamage("Panic"),
            MdbError::VersionMismatch => Self::LmdbDamage("VersionMismatch"),
            MdbError::Invalid => Self::LmdbDamage("Invalid"),
            MdbError::CursorFull => Self::LmdbDamage("CursorFull"),
            MdbError::PageFull => Self::LmdbDamage("PageFull"),
            MdbError::Incompatible => Self::LmdbDamage("Incompatible"),
            MdbError::BadTxn => Self::LmdbDamage("BadTxn"),
            MdbError::Problem => Self::LmdbDamage("Problem"),
            MdbError::KeyExist => Self::Lmdb("KeyExist"),
            MdbError::NotFound => Self::Lmdb("NotFound"),
            MdbError::MapFull => Self::Lmdb("MapFull"),
            MdbError::DbsFull => Self::Lmdb("DbsFull"),
            MdbError::ReadersFull => Self::Lmdb("ReadersFull"),
            MdbError::TlsFull => Self::Lmdb("TlsFull"),
            MdbError::TxnFull => Self::Lmdb("TxnFull"),
            MdbError::MapResized => Self::Lmdb("MapResized"),
            MdbError::BadRslot => Self::Lmdb("BadRslot"),
            MdbError::BadValSize => Self::Lmdb("BadValSize"),
            MdbError::BadDbi => Self::Lmdb("BadDbi"),
            MdbError::Other(number) => Self::System(number),
        }
    }
}

type Entries = Database<Bytes, Bytes>;
type ReadTransaction = RoTxn<'static, WithoutTls>;

/// So often a writer may have committed twice while a view began, before damage is suspected.
const MAX_BEGINNINGS: usize = 100;

/// A key and its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// Who opens an environment, and how large it may become.
#[derive(Clone, Copy)]
pub struct Options {
    /// The most that it can ever hold, a multiple of the size of a page.
    pub map_bytes: usize,
    /// How many views there may be at a time, of all processes.
    pub max_readers: u32,
    /// Whether nothing is written.
    pub reads_only: bool,
}

/// An open environment. In a process, there is one of a directory at a time.
pub struct Environment {
    open: Mutex<Option<Open>>,
}

struct Open {
    env: Env<WithoutTls>,
    file: Arc<File>,
    views: Vec<Weak<Mutex<Option<Reading>>>>,
}

impl Environment {
    /// Open the environment in a directory.
    ///
    /// # Errors
    ///
    /// There is none that can be opened, or it cannot be made.
    pub fn open(directory: &Path, options: Options) -> Result<Self> {
        let flags = if options.reads_only {
            EnvFlags::READ_ONLY | EnvFlags::NO_READ_AHEAD
        } else {
            EnvFlags::NO_SYNC | EnvFlags::NO_META_SYNC
        };
        let mut opening = EnvOpenOptions::new().read_txn_without_tls();
        opening.map_size(options.map_bytes).max_readers(options.max_readers);
        // SAFETY: What these flags give up is durability after a crash of the machine, and the writer begins the store
        // anew after one. Only LMDB changes the file while it is mapped; if somebody else does, as damage to a disk
        // would, every byte that is read has to prove itself by its MAC.
        #[allow(unsafe_code, reason = "LMDB maps its file")]
        let env = unsafe { opening.flags(flags).open(directory)? };
        let file = Tree::file(directory)?;
        Ok(Self { open: Mutex::new(Some(Open { env, file, views: Vec::new() })) })
    }

    /// Return the store as it is now.
    ///
    /// # Errors
    ///
    /// It is closed, or LMDB does not give it.
    pub fn read(&self) -> Result<View> {
        let mut open = available(&self.open)?;
        let open = open.as_mut().ok_or(Fault::Closed)?;
        let reading = Arc::new(Mutex::new(Some(open.begin()?)));
        open.views.retain(|view| view.strong_count() > 0);
        open.views.push(Arc::downgrade(&reading));
        Ok(View { reading })
    }

    /// Put entries, or remove those without a value: all or none.
    ///
    /// # Errors
    ///
    /// It is closed, or LMDB does not take them.
    pub fn write<'c>(&self, changes: impl IntoIterator<Item = (&'c [u8], Option<&'c [u8]>)>) -> Result<()> {
        let open = available(&self.open)?;
        let env = &open.as_ref().ok_or(Fault::Closed)?.env;
        let mut transaction = env.write_txn()?;
        let entries: Entries = env.create_database(&mut transaction, None)?;
        for (key, value) in changes {
            match value {
                Some(value) => entries.put(&mut transaction, key, value)?,
                None => {
                    entries.delete(&mut transaction, key)?;
                }
            }
        }
        Ok(transaction.commit()?)
    }

    /// Free the pages that killed readers had pinned; return the number of those readers.
    ///
    /// # Errors
    ///
    /// It is closed, or LMDB fails.
    pub fn reader_check(&self) -> Result<usize> {
        let open = available(&self.open)?;
        Ok(open.as_ref().ok_or(Fault::Closed)?.env.clear_stale_readers()?)
    }

    /// Wait until everything that was written is on the disk.
    ///
    /// # Errors
    ///
    /// It is closed, or the disk does not take it.
    pub fn sync(&self) -> Result<()> {
        let open = available(&self.open)?;
        Ok(open.as_ref().ok_or(Fault::Closed)?.env.force_sync()?)
    }

    /// Close it and all views of it.
    ///
    /// # Errors
    ///
    /// Another thread is using it.
    pub fn close(&self) -> Result<()> {
        let mut open = available(&self.open)?;
        for view in open.iter().flat_map(|open| &open.views).filter_map(Weak::upgrade) {
            *available(&view)? = None;
        }
        // The last part of it that was left: LMDB closes the file now.
        *open = None;
        Ok(())
    }
}

impl Open {
    fn begin(&self) -> Result<Reading> {
        for _ in 0..MAX_BEGINNINGS {
            let transaction = self.env.clone().static_read_txn()?;
            let entries: Entries = self.env.open_database(&transaction, None)?.ok_or(Fault::LmdbDamage("NotFound"))?;
            let page_bytes = usize::try_from(entries.stat(&transaction)?.page_size).unwrap_or_default();
            if let Some(tree) = Tree::of(&self.file, transaction.id() as u64, page_bytes)? {
                return Ok(Reading { transaction, entries, tree });
            }
        }
        Err(Fault::Corrupt("the consent store has lost what it had"))
    }
}

/// What a view has of LMDB.
struct Reading {
    transaction: ReadTransaction,
    entries: Entries,
    tree: Tree,
}

/// The store as it was at one moment.
#[derive(Clone)]
pub struct View {
    reading: Arc<Mutex<Option<Reading>>>,
}

impl View {
    /// Return the value of a key.
    ///
    /// # Errors
    ///
    /// The view is closed, or LMDB cannot read it.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.with(|pages| Ok(pages.get(key)?.map(<[u8]>::to_vec)))
    }

    /// Return the last entry before a key, and the first that is not.
    ///
    /// # Errors
    ///
    /// The view is closed, or LMDB cannot read it.
    pub fn neighbours(&self, key: &[u8]) -> Result<(Option<Entry>, Option<Entry>)> {
        let owned = |(key, value): (&[u8], &[u8])| (key.to_vec(), value.to_vec());
        self.with(|pages| {
            let (before, after) = pages.neighbours(key)?;
            Ok((before.map(owned), after.map(owned)))
        })
    }

    /// Return the first entries after a key, at most so many.
    ///
    /// # Errors
    ///
    /// The view is closed, or LMDB cannot read it.
    pub fn entries_after(&self, key: &[u8], count: usize) -> Result<Vec<Entry>> {
        self.with(|pages| {
            let found = pages.after(key, count)?;
            Ok(found.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect())
        })
    }

    /// Let go of it, so that its pages can be used again.
    ///
    /// # Errors
    ///
    /// Another thread is using it.
    pub fn close(&self) -> Result<()> {
        *available(&self.reading)? = None;
        Ok(())
    }

    fn with<T>(&self, read: impl FnOnce(&Pages<'_>) -> Result<T>) -> Result<T> {
        let reading = available(&self.reading)?;
        read(&Pages::new(reading.as_ref().ok_or(Fault::Closed)?))
    }
}

/// Return what a mutex holds. Nobody waits: the store is for one thread at a time, and one that waits may hold the GIL.
fn available<T>(mutex: &Mutex<T>) -> Result<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Ok(guard),
        Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => Err(Fault::Busy),
    }
}
