// dump prints what a containerd database says about each sandbox and container, read with bbolt itself.
//
//	dump FILE        bucket, id, createdat, kind, name and attempt, a line each
//	dump -all FILE   every key of the file with the FNV-1a sum of its value
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"os"
	"time"

	bolt "go.etcd.io/bbolt"
)

var all = flag.Bool("all", false, "every key")

func main() {
	flag.Parse()
	if err := run(flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "dump:", err)
		os.Exit(1)
	}
}

func run(path string) error {
	db, err := bolt.Open(path, 0, &bolt.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer db.Close()
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	return db.View(func(tx *bolt.Tx) error {
		if *all {
			return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
				fmt.Fprintf(out, "/%x\n", name)
				return every(out, fmt.Sprintf("/%x", name), b)
			})
		}
		return facts(out, tx)
	})
}

func every(out *bufio.Writer, path string, b *bolt.Bucket) error {
	return b.ForEach(func(k, v []byte) error {
		below := fmt.Sprintf("%s/%x", path, k)
		if v == nil {
			fmt.Fprintln(out, below)
			return every(out, below, b.Bucket(k))
		}
		sum := fnv.New64a()
		sum.Write(v)
		fmt.Fprintf(out, "%s = %d bytes, %016x\n", below, len(v), sum.Sum64())
		return nil
	})
}

// metadata is what counts of the JSON of containerd's CRI plugin.
type metadata struct {
	Metadata struct {
		Name   string
		Config struct {
			Metadata struct {
				Attempt uint32 `json:"attempt"`
			} `json:"metadata"`
		}
	}
}

func facts(out *bufio.Writer, tx *bolt.Tx) error {
	ns := tx.Bucket([]byte("v1"))
	if ns != nil {
		ns = ns.Bucket([]byte("k8s.io"))
	}
	if ns == nil {
		return errors.New("no bucket v1/k8s.io")
	}
	for _, name := range []string{"containers", "sandboxes"} {
		records := ns.Bucket([]byte(name))
		if records == nil {
			continue
		}
		err := records.ForEach(func(id, _ []byte) error {
			kind, extension := "sandbox", "metadata"
			record := records.Bucket(id)
			if name == "containers" {
				kind = string(record.Bucket([]byte("labels")).Get([]byte("io.cri-containerd.kind")))
				extension = "io.cri-containerd." + kind + ".metadata"
			}
			var created time.Time
			if err := created.UnmarshalBinary(record.Get([]byte("createdat"))); err != nil {
				return fmt.Errorf("%s: createdat: %w", id, err)
			}
			var meta metadata
			value, err := valueOf(record.Bucket([]byte("extensions")).Get([]byte(extension)))
			if err == nil {
				err = json.Unmarshal(value, &meta)
			}
			if err != nil {
				return fmt.Errorf("%s: %s: %w", id, extension, err)
			}
			fmt.Fprintf(out, "%s %s %d.%09d %s %s %d\n", name, id, created.Unix(), created.Nanosecond(), kind,
				meta.Metadata.Name, meta.Metadata.Config.Metadata.Attempt)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// valueOf finds field 2 of a protobuf Any, which has nothing but fields of bytes.
func valueOf(any []byte) ([]byte, error) {
	for len(any) > 0 {
		tag := any[0]
		length, n := binary.Uvarint(any[1:])
		if n <= 0 || tag&7 != 2 || uint64(len(any)-1-n) < length {
			break
		}
		any = any[1+n:]
		if tag>>3 == 2 {
			return any[:length], nil
		}
		any = any[length:]
	}
	return nil, errors.New("no protobuf Any with a value")
}
