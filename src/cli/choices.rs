//! The words that some settings take, and what they stand for.

/// One of a few words.
pub trait Choice: Copy + 'static {
    /// The words, in the order of [`Self::ALL`].
    const WORDS: &'static [&'static str];
    /// What they stand for.
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
            /// As it is typed.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }
    };
}

choice! {
    /// Whether the run ends by itself.
    Mode {
        /// Takes up what is there, then ends.
        Once = "once",
        /// Goes on looking for new archives until a signal.
        Spool = "spool",
    }
}

choice! {
    /// Where archives are.
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
        /// Who makes them (`x-amz-request-payer`).
        Requester = "requester",
        /// Who owns the bucket.
        None = "none",
    }
}

choice! {
    /// Where the bucket's name goes.
    Addressing {
        /// Into the host's name on AWS, where that is possible; into the path elsewhere.
        Auto = "auto",
        /// Into the path.
        Path = "path",
        /// Into the host's name.
        Virtual = "virtual",
    }
}

choice! {
    /// How vectors are to be written.
    VectorChoice {
        /// As base64 once the server is proven to read it, else as arrays.
        Auto = "auto",
        /// As base64, unproven.
        Base64 = "base64",
        /// As arrays.
        Array = "array",
    }
}

choice! {
    /// What of AWS requests are signed for, as signatures name it.
    AwsService {
        /// Amazon OpenSearch Service.
        Es = "es",
        /// Its Serverless.
        Aoss = "aoss",
    }
}

choice! {
    /// How the log is written.
    LogFormat {
        /// Lines for people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}
