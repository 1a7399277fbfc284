package conf

// nearest returns the candidate that word was probably meant to be: the one at the smallest edit distance, if that is at most a third of
// the word's length and so more likely a slip than another word. Of equals the first.
func nearest(word string, candidates []string) (string, bool) {
	const lettersPerSlip = 3
	found, least := "", (len(word)+lettersPerSlip-1)/lettersPerSlip
	for _, c := range candidates {
		if d := distance(word, c); d < least || d == least && found == "" {
			found, least = c, d
		}
	}
	return found, found != ""
}

// distance is the number of letters to insert, delete, replace or swap with their neighbour to make b of a (the optimal string
// alignment distance). Words longer than any key of ours are not compared.
func distance(a, b string) int {
	const longest = 64
	if len(a) > longest || len(b) > longest {
		return max(len(a), len(b))
	}
	older, old, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		older, old, row = old, row, older
		row[0] = i
		for j := 1; j <= len(b); j++ {
			row[j] = min(old[j]+1, row[j-1]+1, old[j-1]+replacing(a[i-1], b[j-1]))
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], older[j-2]+1)
			}
		}
	}
	return row[len(b)]
}

// replacing is the price of b where a was.
func replacing(a, b byte) int {
	if a == b {
		return 0
	}
	return 1
}
