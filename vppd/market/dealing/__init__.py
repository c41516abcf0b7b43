"""From a book to what is sold: sent once, answered, held, explained."""
