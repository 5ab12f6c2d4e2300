package hints

import (
	"hash/fnv"
	"strconv"

	"github.com/google/uuid"
)

// Buckets is how many hash tags the channels share. All nodes must agree on it.
const Buckets = 16

// Channel is the name of a channel of pub/sub, with the bucket that it lies in.
type Channel struct {
	Name   string
	Bucket int
}

func channel(bucket int, rest string) Channel {
	return Channel{Name: "hint:{" + strconv.Itoa(bucket) + "}:" + rest, Bucket: bucket}
}

func bucketOf(b []byte) int {
	h := fnv.New32a()
	_, _ = h.Write(b)
	return int(h.Sum32() % Buckets)
}

func sessionChannel(id uuid.UUID) Channel { return channel(bucketOf(id[:]), "s:"+id.String()) }

func userChannel(id string) Channel { return channel(bucketOf([]byte(id)), "u:"+id) }

func presenceChannel(id string) Channel { return channel(bucketOf([]byte(id)), "o:"+id) }

// nodesChannel is where nodes say that they are there, and that something is new for everybody.
func nodesChannel() Channel { return channel(0, "nodes") }

// probeChannel is a node's own in a bucket.
func probeChannel(bucket int, node string) Channel { return channel(bucket, "p:"+node) }
