package jsontranscoder

// Error is what Encode and Decode return.
type Error = payloadError
