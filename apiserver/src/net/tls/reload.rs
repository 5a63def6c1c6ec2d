//! Certificates, keys and lists from files that may change while the server runs.
//!
//! Handshakes ask for the configuration; once a second at most, one of them looks whether a file is
//! another one. What was established before goes on with what it had.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use mainstay_engine::runtime::timer;
use rustls::ServerConfig;

use super::config::{Material, Rules, server_config};
use super::{TlsError, limits};
use crate::cli::LogLevel;
use crate::log;

/// Where a door's [`Material`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub client_authorities: Vec<PathBuf>,
    pub revoked: Option<PathBuf>,
}

impl Files {
    fn all(&self) -> impl Iterator<Item = &Path> {
        [&self.certificate, &self.key]
            .into_iter()
            .chain(&self.client_authorities)
            .chain(&self.revoked)
            .map(PathBuf::as_path)
    }

    fn read(&self) -> Result<Material, TlsError> {
        Ok(Material {
            certificate: read(&self.certificate)?,
            key: read(&self.key)?,
            client_authorities: self
                .client_authorities
                .iter()
                .map(|path| read(path))
                .collect::<Result<_, _>>()?,
            revoked: self.revoked.as_deref().map(read).transpose()?,
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::File { path: path.to_owned(), error })
}

/// What tells that a file is another one, without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    /// Device, number and length; `None` when there is no such file just now.
    file: Option<(u64, u64, u64)>,
    /// When its content changed, as far as its writer lets us know.
    written: Option<SystemTime>,
    /// When anything of it changed, which no writer can choose: its rights, its name, its content.
    changed: Option<SystemTime>,
}

impl Stamp {
    fn of(path: &Path) -> Stamp {
        // Through symbolic links: that is how Kubernetes replaces a mounted secret.
        let found = fs::metadata(path).ok();
        Stamp {
            file: found.as_ref().map(|file| (file.dev(), file.ino(), file.len())),
            written: found.as_ref().and_then(|file| file.modified().ok()),
            changed: found.as_ref().and_then(changed),
        }
    }

    /// A file that was written this moment may be written again without its time changing.
    fn is_fresh(&self, now: SystemTime) -> bool {
        [self.written, self.changed].into_iter().any(|time| {
            let age = time.and_then(|time| now.duration_since(time).ok());
            age.is_none_or(|age| age < limits::FILE_TIME_GRAIN)
        })
    }
}

fn changed(file: &fs::Metadata) -> Option<SystemTime> {
    let seconds = Duration::from_secs(u64::try_from(file.ctime()).ok()?);
    let rest = Duration::from_nanos(u64::try_from(file.ctime_nsec()).ok()?);
    SystemTime::UNIX_EPOCH.checked_add(seconds + rest)
}

/// Makes a configuration of what the files hold.
pub type Make<C> = fn(&Material, &Rules) -> Result<Arc<C>, TlsError>;

/// The TLS configuration of a door, as its files have it now.
#[derive(Debug)]
pub struct Reloading<C = ServerConfig> {
    /// For the log: whose it is.
    door: &'static str,
    files: Files,
    rules: Rules,
    make: Make<C>,
    state: Mutex<State<C>>,
}

#[derive(Debug)]
struct State<C> {
    config: Arc<C>,
    /// What was read last, usable or not; `None` when something could not be read.
    material: Option<Material>,
    /// What the last look found while somebody may still have been writing: half of a bundle of
    /// authorities, or of a list, looks like a whole one.
    unsure: Option<Material>,
    stamps: Vec<Stamp>,
    /// Some file was so young, or could not be read, that the next look reads all of them anyway.
    unsettled: bool,
    looked_at_ms: u64,
    /// What was said of files that can't be used; not said again.
    said: Option<String>,
}

impl Reloading {
    /// Reads everything for the first time, for one that is connected to.
    pub fn new(door: &'static str, files: Files, rules: Rules) -> Result<Arc<Reloading>, TlsError> {
        Reloading::made_by(server_config, door, files, rules)
    }
}

impl<C> Reloading<C> {
    /// Reads everything for the first time.
    pub fn made_by(
        make: Make<C>,
        door: &'static str,
        files: Files,
        rules: Rules,
    ) -> Result<Arc<Reloading<C>>, TlsError> {
        let stamps: Vec<Stamp> = files.all().map(Stamp::of).collect();
        let material = files.read()?;
        let state = State {
            config: make(&material, &rules)?,
            material: Some(material),
            unsure: None,
            stamps,
            unsettled: true,
            looked_at_ms: timer::monotonic_ms(),
            said: None,
        };
        Ok(Arc::new(Reloading { door, files, rules, make, state: Mutex::new(state) }))
    }

    /// The configuration for a handshake that begins now.
    pub fn current(&self) -> Arc<C> {
        self.at(timer::monotonic_ms(), timer::wall_clock())
    }

    fn at(&self, now_ms: u64, now: SystemTime) -> Arc<C> {
        let mut state = self.lock();
        if now_ms.saturating_sub(state.looked_at_ms) >= limits::FILE_LOOK_MS {
            state.looked_at_ms = now_ms;
            self.look(&mut state, now);
        }
        state.config.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, state: &mut State<C>, now: SystemTime) {
        let stamps: Vec<Stamp> = self.files.all().map(Stamp::of).collect();
        if stamps == state.stamps && !state.unsettled {
            return;
        }
        state.unsettled = stamps.iter().any(|stamp| stamp.is_fresh(now));
        state.stamps = stamps;
        let unsure = state.unsure.take();
        match self.files.read() {
            Ok(material) if state.material.as_ref() == Some(&material) => {}
            // Taken when it has settled, or is the same at the next look.
            Ok(material) if state.unsettled && unsure.as_ref() != Some(&material) => {
                state.unsure = Some(material);
            }
            Ok(material) => {
                let made = (self.make)(&material, &self.rules);
                state.material = Some(material);
                match made {
                    Ok(config) => {
                        // Clients that come back can't resume what the old one granted them.
                        state.config = config;
                        state.said = None;
                        let door = self.door;
                        log::write(LogLevel::Info, format_args!("{door}: new certificates taken"));
                    }
                    Err(error) => self.keep(state, &error),
                }
            }
            Err(error) => {
                state.material = None;
                // What keeps it from being read may go without the file changing.
                state.unsettled = true;
                self.keep(state, &error);
            }
        }
    }

    /// The old ones stay, and it is said once.
    fn keep(&self, state: &mut State<C>, error: &TlsError) {
        let said = error.to_string();
        if state.said.as_ref() != Some(&said) {
            let paths: Vec<_> = self.files.all().map(|path| path.display().to_string()).collect();
            log::write(
                LogLevel::Error,
                format_args!(
                    "{}: the certificates that were served so far stay, as the new ones can't be \
                     used: {said} (of {})",
                    self.door,
                    paths.join(", "),
                ),
            );
            state.said = Some(said);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Directory {
            let path =
                std::env::temp_dir().join(format!("mainstay-tls-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Directory(path)
        }

        fn write(&self, name: &str, content: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, content).unwrap();
            path
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _gone = fs::remove_dir_all(&self.0);
        }
    }

    /// A certificate and its key.
    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn new_files_are_taken_and_broken_ones_are_not() {
        let directory = Directory::new("reload");
        let (certificate, key) = pair();
        let files = Files {
            certificate: directory.write("tls.crt", &certificate),
            key: directory.write("tls.key", &key),
            client_authorities: Vec::new(),
            revoked: None,
        };
        let source = Reloading::new("test", files, Rules::default()).unwrap();
        let start = timer::monotonic_ms();
        let mut seconds = 0;
        // A look in the next second; whether the configuration is another one.
        let mut last = source.current();
        let mut changes = || {
            seconds += 1;
            let now = SystemTime::now() + Duration::from_secs(seconds);
            let config = source.at(start + seconds * 1000, now);
            !Arc::ptr_eq(&config, &std::mem::replace(&mut last, config.clone()))
        };
        assert!(!changes(), "nothing is new");
        let (certificate, key) = pair();
        directory.write("tls.crt", &certificate);
        assert!(!changes(), "a certificate without its key");
        assert!(source.lock().said.as_ref().is_some_and(|said| said.contains("can't be used")));
        directory.write("tls.key", &key);
        assert!(changes(), "now they belong together");
        assert!(source.lock().said.is_none());
        fs::remove_file(directory.0.join("tls.key")).unwrap();
        assert!(!changes(), "a missing file");
        assert!(source.lock().said.as_ref().is_some_and(|said| said.contains("tls.key")));
        directory.write("tls.key", &key);
        assert!(changes() && source.lock().said.is_none(), "there again");
        directory.write("tls.crt", "nonsense");
        assert!(!changes());
        let (certificate, key) = pair();
        directory.write("tls.crt", &certificate);
        directory.write("tls.key", &key);
        let looked = source.lock().looked_at_ms;
        let early = source.at(looked + limits::FILE_LOOK_MS - 1, SystemTime::now());
        assert_eq!(source.lock().looked_at_ms, looked, "not more than once a second");
        assert!(Arc::ptr_eq(&early, &source.lock().config));
        assert!(changes());
    }

    #[test]
    fn what_is_being_written_is_taken_when_two_looks_agree() {
        let directory = Directory::new("half");
        let (certificate, key) = pair();
        let (one, other) = (pair().0, pair().0);
        let authorities = directory.write("ca.crt", &one);
        let files = Files {
            certificate: directory.write("tls.crt", &certificate),
            key: directory.write("tls.key", &key),
            client_authorities: vec![authorities],
            revoked: None,
        };
        let source = Reloading::new("test", files, Rules::default()).unwrap();
        let start = timer::monotonic_ms();
        let mut looks = 0;
        let mut last = source.current();
        // A look that takes place just after the writing.
        let mut changes = || {
            looks += 1;
            let config = source.at(start + looks * 1000, SystemTime::now());
            !Arc::ptr_eq(&config, &std::mem::replace(&mut last, config.clone()))
        };
        assert!(!changes());
        directory.write("ca.crt", "");
        assert!(!changes(), "cut short, to be written anew");
        directory.write("ca.crt", &other);
        assert!(!changes(), "half of it");
        directory.write("ca.crt", &format!("{other}{one}"));
        assert!(!changes(), "seen once");
        assert!(changes(), "seen twice");
        assert!(!changes() && source.lock().unsure.is_none());
        assert!(source.lock().said.is_none(), "no half was taken for the whole");
    }

    #[test]
    fn what_could_not_be_read_is_read_again() {
        let directory = Directory::new("again");
        let (certificate, key) = pair();
        let files = Files {
            certificate: directory.write("tls.crt", &certificate),
            key: directory.write("tls.key", &key),
            client_authorities: Vec::new(),
            revoked: None,
        };
        let source = Reloading::new("test", files, Rules::default()).unwrap();
        let start = timer::monotonic_ms();
        let much_later = SystemTime::now() + Duration::from_secs(3600);
        source.at(start + 1000, much_later);
        assert!(!source.lock().unsettled, "nothing is new");
        // Something that is there and can't be read.
        fs::remove_file(directory.0.join("tls.key")).unwrap();
        fs::create_dir(directory.0.join("tls.key")).unwrap();
        source.at(start + 2000, much_later);
        assert!(source.lock().said.is_some() && source.lock().unsettled);
    }

    #[test]
    fn unusable_files_are_no_beginning() {
        let directory = Directory::new("first");
        let (certificate, _) = pair();
        let files = Files {
            certificate: directory.write("tls.crt", &certificate),
            key: directory.0.join("absent"),
            client_authorities: Vec::new(),
            revoked: None,
        };
        let error = Reloading::new("test", files, Rules::default()).unwrap_err().to_string();
        assert!(error.starts_with("can't read") && error.contains("absent"), "{error}");
    }
}
