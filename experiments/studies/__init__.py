"""One script for each figure or table of the paper, and the page that reports on them."""
