// Package sched holds the schedulers.
package sched
