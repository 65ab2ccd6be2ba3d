"""What is truly there: the class of each pixel and the objects of a slide, from files of people."""
