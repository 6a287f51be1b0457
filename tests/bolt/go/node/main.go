// node makes a database as containerd has it on a node: for each pod a sandbox record and two containers. With -churn it
// goes on, until its standard input ends, as a containerd does whose pods come and go.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand"
	"os"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
)

var (
	pods       = flag.Int("pods", 250, "how many pods")
	v2         = flag.Bool("v2", false, "as containerd 2.x: also a record in the bucket sandboxes")
	noFreelist = flag.Bool("nofreelist", false, "do not write the free list, as containerd 1.7 and later")
	pageSize   = flag.Int("pagesize", 4096, "that of the machine that made the file")
	churn      = flag.Int("churn", 0, "transactions a second afterwards; an existing file is taken as it is")
	seed       = flag.Int64("seed", 1, "another node")
)

func main() {
	flag.Parse()
	if err := run(flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "node:", err)
		os.Exit(1)
	}
}

func run(path string) error {
	_, err := os.Stat(path)
	exists := err == nil
	if exists && *churn == 0 {
		return errors.New(path + " exists")
	}
	options := bolt.Options{NoSync: !exists, NoFreelistSync: *noFreelist, PageSize: *pageSize}
	db, err := bolt.Open(path, 0o644, &options)
	if err != nil {
		return err
	}
	if !exists {
		err = fill(db)
	}
	if err == nil && *churn > 0 {
		err = restart(db)
	}
	if err != nil {
		return err
	}
	return db.Close()
}

// buckets are those that a pod is written to.
type buckets struct {
	containers, sandboxes, snapshots *bolt.Bucket
}

func open(tx *bolt.Tx) (buckets, error) {
	var all buckets
	version, schema := []byte("version"), []byte{6}
	if *v2 {
		schema = []byte{8}
	}
	v1, err := tx.CreateBucketIfNotExists([]byte("v1"))
	if err != nil {
		return all, err
	}
	if v1.Get(version) == nil {
		if err := v1.Put(version, schema); err != nil {
			return all, err
		}
	}
	names := []string{"containers", "snapshots", "overlayfs"}
	if *v2 {
		names = append(names, "sandboxes")
	}
	ns, err := v1.CreateBucketIfNotExists([]byte("k8s.io"))
	for _, name := range names {
		if err != nil {
			return all, err
		}
		switch name {
		case "containers":
			all.containers, err = ns.CreateBucketIfNotExists([]byte(name))
		case "sandboxes":
			all.sandboxes, err = ns.CreateBucketIfNotExists([]byte(name))
		case "snapshots":
			all.snapshots, err = ns.CreateBucketIfNotExists([]byte(name))
		case "overlayfs":
			all.snapshots, err = all.snapshots.CreateBucketIfNotExists([]byte(name))
		}
	}
	return all, err
}

// fill makes the pods, in transactions of some size: a node's pods do not come at once either.
func fill(db *bolt.DB) error {
	dice := rand.New(rand.NewSource(*seed))
	for done := 0; done < *pods; {
		err := db.Update(func(tx *bolt.Tx) error {
			all, err := open(tx)
			for i := 0; i < 50 && done < *pods && err == nil; i++ {
				err = makePod(dice, done).write(all)
				done++
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// restart lets a pod come in every transaction, with four containers, and the one before go: whoever sees containers of
// two of them, or not all four, has read no state that was ever there.
func restart(db *bolt.DB) error {
	var stop atomic.Bool
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop.Store(true)
	}()
	dice := rand.New(rand.NewSource(*seed + 1))
	var before []string
	begun := time.Now()
	for count := 0; !stop.Load(); count++ {
		err := db.Update(func(tx *bolt.Tx) error {
			all, err := open(tx)
			if err != nil {
				return err
			}
			before, err = replace(all, before, makePod(dice, 100000+count))
			return err
		})
		if err != nil {
			return err
		}
		if count == 0 {
			fmt.Println("ready")
		}
		time.Sleep(time.Until(begun.Add(time.Duration(count+1) * time.Second / time.Duration(*churn))))
	}
	return nil
}

func replace(all buckets, before []string, p pod) ([]string, error) {
	for _, id := range before {
		for _, within := range []*bolt.Bucket{all.containers, all.snapshots} {
			if err := within.DeleteBucket([]byte(id)); err != nil {
				return nil, err
			}
		}
	}
	var made []string
	for i := 0; i < 4; i++ {
		id, err := p.writeContainer(all, i)
		if err != nil {
			return nil, err
		}
		made = append(made, id)
	}
	return made, nil
}
