"""The bundle of a case: everything that proves how it was decided, in files that OpenSSL alone can judge."""
