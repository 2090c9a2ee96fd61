//! Settings that take one of a few words.

/// A setting that takes one of a few words.
pub trait Choice: Copy + 'static {
    /// The words, in the order of [`Self::ALL`].
    const WORDS: &'static [&'static str];
    /// The values that the words stand for.
    const ALL: &'static [Self];
}

macro_rules! choice {
    ($(#[$about:meta])* $name:ident { $($(#[$meaning:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$meaning])* $variant,)+ }

        impl Choice for $name {
            const WORDS: &'static [&'static str] = &[$($word),+];
            const ALL: &'static [Self] = &[$(Self::$variant),+];
        }

        impl $name {
            /// Returns the word as it is typed.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }
    };
}

choice! {
    /// Whether the run keeps looking for new archives.
    Mode {
        /// Loads the archives that are there, then ends.
        Once = "once",
        /// Keeps looking for new archives until a signal.
        Spool = "spool",
    }
}

choice! {
    /// Where archives are stored.
    Place {
        /// In the local file system.
        Local = "local",
        /// In a bucket.
        S3 = "s3",
    }
}

choice! {
    /// Who pays for listing and downloads.
    Payer {
        /// The requester (`x-amz-request-payer`).
        Requester = "requester",
        /// The owner of the bucket.
        None = "none",
    }
}

choice! {
    /// Where URLs have the bucket's name.
    Addressing {
        /// In the host on AWS if possible; otherwise in the path.
        Auto = "auto",
        /// In the path.
        Path = "path",
        /// In the host.
        Virtual = "virtual",
    }
}

choice! {
    /// Encoding of vectors.
    VectorChoice {
        /// As base64 if a test shows that the server reads it, otherwise as arrays.
        Auto = "auto",
        /// As base64, without a test.
        Base64 = "base64",
        /// As arrays.
        Array = "array",
    }
}

choice! {
    /// The AWS service that requests are signed for. The words are the service names in signatures.
    AwsService {
        /// Amazon OpenSearch Service.
        Es = "es",
        /// Amazon OpenSearch Serverless.
        Aoss = "aoss",
    }
}

choice! {
    /// Format of the log.
    LogFormat {
        /// Text lines for people.
        Text = "text",
        /// One JSON object per line.
        Json = "json",
    }
}
