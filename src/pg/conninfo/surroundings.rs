//! What a connection string is completed from: the environment, the user's account and files.

use std::path::PathBuf;
use std::{fs, io};

type Lookup = dyn Fn(&str) -> Option<String>;

/// The process's surroundings, or made-up ones of a test.
pub(super) struct Surroundings {
    environment: Box<Lookup>,
    /// Every absolute path is looked for below it.
    root: PathBuf,
    user: Option<String>,
}

impl Surroundings {
    /// Those of this process.
    pub(super) fn of_process() -> Surroundings {
        Surroundings {
            environment: Box::new(|name| std::env::var(name).ok()),
            root: PathBuf::from("/"),
            user: None,
        }
    }

    /// Made-up ones.
    #[cfg(test)]
    pub(super) fn made_up(root: &std::path::Path, user: &str, environment: &[(&str, &str)]) -> Surroundings {
        let owned: std::collections::HashMap<String, String> =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Surroundings {
            environment: Box::new(move |name| owned.get(name).cloned()),
            root: root.to_owned(),
            user: Some(user.to_owned()),
        }
    }

    pub(super) fn variable(&self, name: &str) -> Option<String> {
        (self.environment)(name)
    }

    /// Where the file really is.
    pub(super) fn locate(&self, path: &str) -> PathBuf {
        match path.strip_prefix('/') {
            Some(below) => self.root.join(below),
            None => PathBuf::from(path),
        }
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        self.locate(path).exists()
    }

    pub(super) fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        fs::read(self.locate(path))
    }

    /// A file in the user's home directory, whether it exists or not.
    pub(super) fn in_home(&self, name: &str) -> Option<String> {
        let home = self.variable("HOME").filter(|home| !home.is_empty()).or_else(|| self.account(5))?;
        Some(format!("{}/{name}", home.trim_end_matches('/')))
    }

    /// Name of the account that runs us.
    pub(super) fn user(&self) -> Option<String> {
        if let Some(user) = &self.user {
            return Some(user.clone());
        }
        // Accounts of a directory service are in no file; `id` knows them.
        self.account(0).or_else(|| {
            let output = std::process::Command::new("id").arg("-un").output().ok()?;
            let name = String::from_utf8(output.stdout).ok()?;
            Some(name.trim().to_owned()).filter(|name| !name.is_empty())
        })
    }

    /// A field of our line in /etc/passwd.
    fn account(&self, field: usize) -> Option<String> {
        let id = rustix::process::geteuid().as_raw().to_string();
        let accounts = String::from_utf8_lossy(&self.read("/etc/passwd").ok()?).into_owned();
        let line = accounts.lines().find(|line| line.split(':').nth(2) == Some(&id))?;
        line.split(':').nth(field).map(str::to_owned)
    }
}
